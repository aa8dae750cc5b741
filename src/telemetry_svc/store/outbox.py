"""What goes out is first a row here, written in the transaction that decided it (design.md, decisions 4, 12, 16).

The bucket (a hash of the key) is the unit that a relay locks, so rows of one key leave in the order of their ids.
"""

import base64
import json
import zlib
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

BUCKETS = 64
MAX_BYTES = 16 * 1024 * 1024
WAKE_CHANNEL = "telemetry_outbox"

Headers = tuple[tuple[str, bytes | None], ...]
"""Of a record, in order; a null value is not an empty one."""
StoredHeaders = Sequence[tuple[str, str | None]]
"""The same in JSON, values in base64."""


class OutboxMessage(Struct, frozen=True):
    """One record to be sent to Kafka. `partition` only for records without a key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


def bucket_of(message: OutboxMessage) -> int:
    """0 … 63; records without a key are spread by their partition."""
    seed = message.key if message.key is not None else str(message.partition).encode()
    return zlib.crc32(seed) % BUCKETS


def headers_json(headers: Headers) -> str:
    """Headers as JSON text, values in base64 for they are bytes; null stays null."""
    return json.dumps(
        [[_storable(name), None if value is None else base64.b64encode(value).decode()] for name, value in headers]
    )


def headers_from(stored: StoredHeaders) -> Headers:
    """Headers as they are in a row of JSON, back."""
    return tuple((name, None if content is None else base64.b64decode(content)) for name, content in stored)


def _storable(name: str) -> str:
    """PostgreSQL's text holds neither NUL nor half a surrogate pair; somebody else's header may."""
    return name.replace("\0", "\ufffd").encode(errors="replace").decode()


_ENQUEUE = text(
    """
    INSERT INTO outbox (bucket, topic, partition, key, value, headers)
    SELECT m.bucket, m.topic, m.partition, m.key, m.value, m.headers::jsonb
    FROM unnest(CAST(:buckets AS smallint[]), CAST(:topics AS text[]), CAST(:partitions AS int[]),
                CAST(:keys AS bytea[]), CAST(:values AS bytea[]), CAST(:headers AS text[]))
         WITH ORDINALITY AS m (bucket, topic, partition, key, value, headers, place)
    ORDER BY m.place
    """
)
_WAKE = text(f"NOTIFY {WAKE_CHANNEL}")


async def enqueue(connection: AsyncConnection, messages: Sequence[OutboxMessage]) -> None:
    """Writes the messages in order, inside the caller's transaction, and wakes the relays at its commit."""
    if not messages:
        return
    await connection.execute(
        _ENQUEUE,
        {
            "buckets": [bucket_of(message) for message in messages],
            "topics": [message.topic for message in messages],
            "partitions": [message.partition for message in messages],
            "keys": [message.key for message in messages],
            "values": [message.value for message in messages],
            "headers": [headers_json(message.headers) for message in messages],
        },
    )
    await connection.execute(_WAKE)


class Waiting(Struct, frozen=True):
    """A row that still has to be sent."""

    id: int
    message: OutboxMessage


_LOCK_BUCKETS = text(
    """
    SELECT bucket FROM outbox_bucket b
    WHERE EXISTS (SELECT FROM outbox o WHERE o.bucket = b.bucket AND o.sent_at IS NULL AND o.parked_reason IS NULL
                  AND o.topic <> ALL(CAST(:without AS text[])))
    ORDER BY random() LIMIT :buckets
    FOR NO KEY UPDATE SKIP LOCKED
    """
)

_WAITING = text(
    """
    SELECT id, topic, partition, key, value, headers
    FROM (SELECT *, sum(coalesce(octet_length(value), 0) + pg_column_size(headers)) OVER (
                        ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
          FROM (SELECT * FROM outbox
                WHERE bucket = ANY(CAST(:buckets AS smallint[])) AND sent_at IS NULL AND parked_reason IS NULL
                  AND topic <> ALL(CAST(:without AS text[]))
                ORDER BY id LIMIT :rows) AS next) AS measured
    WHERE coalesce(bytes_before, 0) < :max_bytes
    ORDER BY id
    """
)

_MARK_SENT = text("UPDATE outbox SET sent_at = clock_timestamp() WHERE id = ANY(CAST(:ids AS bigint[]))")
_PARK = text("UPDATE outbox SET parked_reason = :reason WHERE id = :id")
_BACKLOG = text("SELECT count(*) FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL")
_WAITING_UP_TO = text(
    "SELECT count(*) FROM (SELECT FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL LIMIT :most) AS counted"
)


async def lock_waiting(
    connection: AsyncConnection, *, buckets: int, rows: int, max_bytes: int = MAX_BYTES, without: Sequence[str] = ()
) -> list[Waiting]:
    """Locks up to `buckets` buckets that no other relay holds and returns their waiting rows in order of id.

    At most `rows`, and none beyond the one that reaches `max_bytes`: dead letters may be large. None for the topics
    `without`. The locks end with the caller's transaction.
    """
    left_out = list(without)
    result = await connection.execute(_LOCK_BUCKETS, {"buckets": buckets, "without": left_out})
    locked = [row[0] for row in result]
    if not locked:
        return []
    result = await connection.execute(
        _WAITING, {"buckets": locked, "rows": rows, "max_bytes": max_bytes, "without": left_out}
    )
    return [Waiting(row[0], OutboxMessage(row[1], row[3], row[4], _headers(row[5]), row[2])) for row in result]


def _headers(stored: list[tuple[str, str | None]]) -> Headers:
    return tuple((name, None if value is None else base64.b64decode(value)) for name, value in stored)


async def mark_sent(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """The broker has acknowledged these rows."""
    await connection.execute(_MARK_SENT, {"ids": list(ids)})


async def park(connection: AsyncConnection, row_id: int, reason: str) -> None:
    """This row can never be sent; it stays for a person to look at and holds nothing up."""
    await connection.execute(_PARK, {"id": row_id, "reason": reason})


async def backlog(connection: AsyncConnection) -> int:
    """How many rows still have to be sent."""
    return int((await connection.execute(_BACKLOG)).scalar_one())


async def waiting_up_to(connection: AsyncConnection, most: int) -> int:
    """The same, but no more than `most` are counted: a look at a long backlog costs no more than at a short one."""
    return int((await connection.execute(_WAITING_UP_TO, {"most": most})).scalar_one())
