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
WAKE_CHANNEL = "telemetry_outbox"


class OutboxMessage(Struct, frozen=True):
    """One record to be sent to Kafka. `partition` only for records without a key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


def bucket_of(message: OutboxMessage) -> int:
    """0 … 63; records without a key are spread by their partition."""
    seed = message.key if message.key is not None else str(message.partition).encode()
    return zlib.crc32(seed) % BUCKETS


def headers_json(headers: Sequence[tuple[str, bytes]]) -> str:
    """Headers as JSON text, values in base64 for they are bytes."""
    return json.dumps([[name, base64.b64encode(value).decode()] for name, value in headers])


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
