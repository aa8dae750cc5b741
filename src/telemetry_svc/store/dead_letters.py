"""Records that could not be taken: one row per topic, partition and offset, written in the batch's transaction."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.outbox import Headers, headers_json
from telemetry_svc.telemetry import MachineId

VALUE_LIMIT = 1024 * 1024
HEADER_LIMIT = 1024


class DeadLetter(Struct, frozen=True):
    """The original record and why it was refused. `value` is cut at 1 MiB, then `original_length` is set."""

    topic: str
    partition: int
    offset: int
    error_class: str
    error_message: str
    timestamp: datetime
    key: bytes | None = None
    value: bytes | None = None
    original_length: int | None = None
    headers: Headers = ()
    machine_id: MachineId | None = None


class WaitingRecord(Struct, frozen=True):
    """A record that was dead for want of a registration, as it was received."""

    topic: str
    partition: int
    offset: int
    received_at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def timestamp(self) -> int:
        """The broker's append time in ms since 1970, as a record of the broker has it."""
        return round(self.received_at.timestamp() * 1000)


_ADD = text(
    """
    INSERT INTO dead_letter (topic, partition, topic_offset, error_class, error_message, record_timestamp,
                             record_key, record_value, original_length, record_headers, machine_id)
    SELECT d.topic, d.partition, d.topic_offset, d.error_class, d.error_message, d.record_timestamp,
           d.record_key, d.record_value, d.original_length, d.record_headers::jsonb, d.machine_id
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
                CAST(:classes AS text[]), CAST(:messages AS text[]), CAST(:timestamps AS timestamptz[]),
                CAST(:keys AS bytea[]), CAST(:values AS bytea[]), CAST(:lengths AS int[]), CAST(:headers AS text[]),
                CAST(:machine_ids AS text[]))
         AS d (topic, partition, topic_offset, error_class, error_message, record_timestamp,
               record_key, record_value, original_length, record_headers, machine_id)
    ON CONFLICT (topic, partition, topic_offset) DO NOTHING
    RETURNING topic, partition, topic_offset
    """
)

_UNKNOWN = text(
    """
    SELECT topic, partition, topic_offset, record_timestamp, record_key, record_value
    FROM dead_letter
    WHERE machine_id = ANY(CAST(:machine_ids AS text[])) AND error_class = 'unknown_machine' AND taken_up_at IS NULL
    ORDER BY machine_id, record_timestamp, topic_offset
    FOR UPDATE
    """
)

_TAKEN_UP = text(
    """
    UPDATE dead_letter d SET taken_up_at = clock_timestamp(), taken_up_as = t.outcome
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
                CAST(:outcomes AS text[])) AS t (topic, partition, topic_offset, outcome)
    WHERE d.topic = t.topic AND d.partition = t.partition AND d.topic_offset = t.topic_offset
    """
)

Coordinates = tuple[str, int, int]
"""topic, partition, offset: what names a record."""


async def add_dead_letters(connection: AsyncConnection, letters: Sequence[DeadLetter]) -> set[Coordinates]:
    """Stores the letters; returns the coordinates of those that were not stored before."""
    if not letters:
        return set()
    rows = await connection.execute(
        _ADD,
        {
            "topics": [letter.topic for letter in letters],
            "partitions": [letter.partition for letter in letters],
            "offsets": [letter.offset for letter in letters],
            "classes": [letter.error_class for letter in letters],
            "messages": [letter.error_message for letter in letters],
            "timestamps": [letter.timestamp for letter in letters],
            "keys": [letter.key for letter in letters],
            "values": [letter.value for letter in letters],
            "lengths": [letter.original_length for letter in letters],
            "headers": [headers_json(letter.headers) for letter in letters],
            "machine_ids": [letter.machine_id for letter in letters],
        },
    )
    return {(row[0], row[1], row[2]) for row in rows}


async def waiting_for_registration(
    connection: AsyncConnection, machine_ids: Sequence[MachineId]
) -> list[WaitingRecord]:
    """The `unknown_machine` letters of these machines that were never tried again, each machine's oldest first."""
    if not machine_ids:
        return []
    rows = await connection.execute(_UNKNOWN, {"machine_ids": list(machine_ids)})
    return [WaitingRecord(*row) for row in rows]


async def mark_taken_up(connection: AsyncConnection, outcomes: Sequence[tuple[Coordinates, str]]) -> None:
    """Notes what became of letters that were tried again; they are not tried by themselves a second time."""
    if outcomes:
        await connection.execute(
            _TAKEN_UP,
            {
                "topics": [where[0] for where, _ in outcomes],
                "partitions": [where[1] for where, _ in outcomes],
                "offsets": [where[2] for where, _ in outcomes],
                "outcomes": [outcome for _, outcome in outcomes],
            },
        )
