"""Records that could not be taken: one row per topic, partition and offset, written in the batch's transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Self

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.outbox import Headers, StoredHeaders, headers_from, headers_json
from telemetry_svc.telemetry import MachineId

VALUE_LIMIT = 1024 * 1024
HEADER_LIMIT = 1024

Coordinates = tuple[str, int, int]
"""topic, partition, offset: what names a record."""


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
    """A record that waits in the database to be decided (dead, or held back), as it was received."""

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

    @property
    def timestamp_type(self) -> int:
        """The broker's kind: none by its producer's clock ever came as far as the database."""
        return 1

    @classmethod
    def stored(
        cls,
        topic: str,
        partition: int,
        offset: int,
        received_at: datetime,
        key: bytes | None,
        value: bytes | None,
        headers: StoredHeaders,
    ) -> Self:
        """From a row, whose headers are JSON."""
        return cls(topic, partition, offset, received_at, key, value, headers_from(headers))


class TakenUp(Struct, frozen=True):
    """What became of a letter that was tried again: replayed, repeated, or the class it failed with, and why."""

    where: Coordinates
    outcome: str
    why: str | None = None


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

_RECORD = "topic, partition, topic_offset, record_timestamp, record_key, record_value, record_headers"

_UNKNOWN = text(
    f"""
    SELECT {_RECORD} FROM dead_letter
    WHERE machine_id = ANY(CAST(:machine_ids AS text[])) AND error_class = 'unknown_machine' AND taken_up_at IS NULL
    ORDER BY machine_id, record_timestamp, topic_offset LIMIT :at_most
    FOR UPDATE
    """
)

_STILL_UNKNOWN = text(
    """
    SELECT DISTINCT machine_id FROM dead_letter
    WHERE machine_id = ANY(CAST(:machine_ids AS text[])) AND error_class = 'unknown_machine' AND taken_up_at IS NULL
    """
)

_LETTER = text(
    f"""
    SELECT {_RECORD} FROM dead_letter
    WHERE topic = :topic AND partition = :partition AND topic_offset = :offset FOR UPDATE
    """
)

_REQUESTED = text(
    f"""
    SELECT {_RECORD} FROM dead_letter d
    WHERE partition = :partition AND requested_at IS NOT NULL AND topic = ANY(CAST(:topics AS text[]))
      AND NOT EXISTS (SELECT FROM parked_machine p WHERE p.machine_id = d.machine_id)
    ORDER BY record_timestamp, topic_offset LIMIT :at_most
    FOR UPDATE OF d
    """
)

_TAKEN_UP = text(
    """
    UPDATE dead_letter d
    SET taken_up_at = CASE WHEN t.outcome <> 'unknown_machine' THEN clock_timestamp() END,
        taken_up_as = t.outcome, taken_up_why = t.why, requested_at = NULL
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
                CAST(:outcomes AS text[]), CAST(:whys AS text[])) AS t (topic, partition, topic_offset, outcome, why)
    WHERE d.topic = t.topic AND d.partition = t.partition AND d.topic_offset = t.topic_offset
    """
)


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
    connection: AsyncConnection, machine_ids: Collection[MachineId], at_most: int
) -> list[WaitingRecord]:
    """The first `unknown_machine` letters of these machines that were never tried again, oldest first of each."""
    if not machine_ids:
        return []
    rows = await connection.execute(_UNKNOWN, {"machine_ids": list(machine_ids), "at_most": at_most})
    return [WaitingRecord.stored(*row) for row in rows]


async def still_waiting(connection: AsyncConnection, machine_ids: Collection[MachineId]) -> set[MachineId]:
    """Those of the machines that have letters which wait for their registration."""
    rows = await connection.execute(_STILL_UNKNOWN, {"machine_ids": list(machine_ids)})
    return {MachineId(row[0]) for row in rows}


async def letter_at(connection: AsyncConnection, where: Coordinates) -> WaitingRecord | None:
    """The record of one letter; None where it was deleted."""
    values = {"topic": where[0], "partition": where[1], "offset": where[2]}
    row = (await connection.execute(_LETTER, values)).one_or_none()
    return None if row is None else WaitingRecord.stored(*row)


async def requested_letters(
    connection: AsyncConnection, partition: int, topics: Collection[str], at_most: int
) -> list[WaitingRecord]:
    """The first letters of a partition that a person wants tried again, oldest first; those of parked machines wait."""
    values = {"partition": partition, "topics": list(topics), "at_most": at_most}
    return [WaitingRecord.stored(*row) for row in await connection.execute(_REQUESTED, values)]


async def mark_taken_up(connection: AsyncConnection, outcomes: Sequence[TakenUp]) -> None:
    """Notes what became of letters that were tried again; they are not tried by themselves a second time, unless their
    machine is unknown still."""
    if outcomes:
        await connection.execute(
            _TAKEN_UP,
            {
                "topics": [one.where[0] for one in outcomes],
                "partitions": [one.where[1] for one in outcomes],
                "offsets": [one.where[2] for one in outcomes],
                "outcomes": [one.outcome for one in outcomes],
                "whys": [one.why for one in outcomes],
            },
        )
