"""Machines that wait behind a record which made the rules fail, and what came of them since, in order.

Written by the owner of the partition alone, in its fenced transactions; so both survive a restart and a rebalance.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.dead_letters import Coordinates, WaitingRecord
from telemetry_svc.store.outbox import headers_json
from telemetry_svc.telemetry import MachineId


class Parking(Struct, frozen=True):
    """A machine is parked behind the dead letter at `behind`; None: nothing failed, it only has much to catch up."""

    machine_id: MachineId
    partition: int
    behind: Coordinates | None
    reason: str


class Parked(Struct, frozen=True):
    """A parked machine whose turn has come. `tries`: how often its dead letter was tried in vain."""

    machine_id: MachineId
    behind: Coordinates | None
    tries: int


class Held(Struct, frozen=True):
    """A record of a parked machine and its number in the order of holding."""

    n: int
    record: WaitingRecord


_PARKED = text(
    "SELECT machine_id, topic IS NOT NULL FROM parked_machine WHERE partition = ANY(CAST(:partitions AS smallint[]))"
)

_DUE = text(
    """
    SELECT machine_id, partition, topic, topic_offset, tries FROM parked_machine
    WHERE partition = :partition AND next_try_at <= clock_timestamp() ORDER BY next_try_at LIMIT 1
    """
)

_PARK = text(
    """
    INSERT INTO parked_machine (machine_id, partition, topic, topic_offset, reason, next_try_at)
    SELECT p.machine_id, p.partition, p.topic, p.topic_offset, p.reason,
           clock_timestamp() + CASE WHEN p.topic IS NULL THEN interval '0' ELSE CAST(:retry_every AS interval) END
    FROM unnest(CAST(:machine_ids AS text[]), CAST(:partitions AS smallint[]), CAST(:topics AS text[]),
                CAST(:offsets AS bigint[]), CAST(:reasons AS text[]))
         AS p (machine_id, partition, topic, topic_offset, reason)
    ON CONFLICT (machine_id) DO UPDATE
    SET topic = excluded.topic, topic_offset = excluded.topic_offset, reason = excluded.reason, tries = 0,
        next_try_at = excluded.next_try_at
    """
)

_POSTPONE = text(
    """
    UPDATE parked_machine SET tries = tries + 1, next_try_at = clock_timestamp() + CAST(:retry_every AS interval)
    WHERE machine_id = :machine_id
    """
)

_UNPARK = text("DELETE FROM parked_machine WHERE machine_id = :machine_id")

_HOLD = text(
    """
    INSERT INTO held_record (machine_id, topic, partition, topic_offset, received_at, record_key, record_value,
                             record_headers)
    SELECT h.machine_id, h.topic, h.partition, h.topic_offset, h.received_at, h.record_key, h.record_value,
           h.record_headers::jsonb
    FROM unnest(CAST(:machine_ids AS text[]), CAST(:topics AS text[]), CAST(:partitions AS int[]),
                CAST(:offsets AS bigint[]), CAST(:received_ats AS timestamptz[]), CAST(:keys AS bytea[]),
                CAST(:values AS bytea[]), CAST(:headers AS text[])) WITH ORDINALITY
         AS h (machine_id, topic, partition, topic_offset, received_at, record_key, record_value, record_headers, place)
    ORDER BY h.place
    """
)

_HELD = text(
    """
    SELECT n, topic, partition, topic_offset, received_at, record_key, record_value, record_headers
    FROM held_record WHERE machine_id = :machine_id ORDER BY n LIMIT :at_most
    """
)

_PUT_BEHIND = text(
    """
    UPDATE dead_letter d SET machine_id = b.machine_id
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
                CAST(:machine_ids AS text[])) AS b (topic, partition, topic_offset, machine_id)
    WHERE d.topic = b.topic AND d.partition = b.partition AND d.topic_offset = b.topic_offset
    """
)

_DROP = text("DELETE FROM held_record WHERE machine_id = :machine_id AND n <= :up_to")


async def parked_machines(connection: AsyncConnection, partitions: Collection[int]) -> dict[MachineId, bool]:
    """All that are parked in these partitions; True: behind a record that failed."""
    rows = await connection.execute(_PARKED, {"partitions": list(partitions)})
    return {MachineId(row[0]): row[1] for row in rows}


async def due_machine(connection: AsyncConnection, partition: int) -> Parked | None:
    """The parked machine of a partition that has waited longest for its next try, if that time has come."""
    row = (await connection.execute(_DUE, {"partition": partition})).one_or_none()
    if row is None:
        return None
    behind = None if row.topic is None else (row.topic, row.partition, row.topic_offset)
    return Parked(MachineId(row.machine_id), behind, row.tries)


async def park(connection: AsyncConnection, parkings: Sequence[Parking], retry_every: timedelta) -> None:
    """Parks the machines, each once; one that is parked waits behind its new dead letter from now on."""
    if parkings:
        await connection.execute(
            _PARK,
            {
                "machine_ids": [one.machine_id for one in parkings],
                "partitions": [one.partition for one in parkings],
                "topics": [None if one.behind is None else one.behind[0] for one in parkings],
                "offsets": [None if one.behind is None else one.behind[2] for one in parkings],
                "reasons": [one.reason for one in parkings],
                "retry_every": retry_every,
            },
        )


async def postpone(connection: AsyncConnection, machine_id: MachineId, retry_every: timedelta) -> None:
    """It was tried in vain: again after `retry_every`."""
    await connection.execute(_POSTPONE, {"machine_id": machine_id, "retry_every": retry_every})


async def unpark(connection: AsyncConnection, machine_id: MachineId) -> None:
    """Nothing of it waits any more."""
    await connection.execute(_UNPARK, {"machine_id": machine_id})


async def hold(connection: AsyncConnection, records: Sequence[tuple[MachineId, WaitingRecord]]) -> None:
    """Keeps records of parked machines, behind those that are held already."""
    if records:
        await connection.execute(
            _HOLD,
            {
                "machine_ids": [machine_id for machine_id, _ in records],
                "topics": [record.topic for _, record in records],
                "partitions": [record.partition for _, record in records],
                "offsets": [record.offset for _, record in records],
                "received_ats": [record.received_at for _, record in records],
                "keys": [record.key for _, record in records],
                "values": [record.value for _, record in records],
                "headers": [headers_json(record.headers) for _, record in records],
            },
        )


async def put_behind(connection: AsyncConnection, letters: Mapping[Coordinates, MachineId]) -> None:
    """Names the machines of letters of which nobody knew whose they are: where one is parked, they wait for it."""
    if letters:
        await connection.execute(
            _PUT_BEHIND,
            {
                "topics": [topic for topic, _, _ in letters],
                "partitions": [partition for _, partition, _ in letters],
                "offsets": [offset for _, _, offset in letters],
                "machine_ids": list(letters.values()),
            },
        )


async def held_records(connection: AsyncConnection, machine_id: MachineId, at_most: int) -> list[Held]:
    """The first of what is held of a machine, in order."""
    rows = await connection.execute(_HELD, {"machine_id": machine_id, "at_most": at_most})
    return [Held(row[0], WaitingRecord.stored(*row[1:])) for row in rows]


async def drop_held(connection: AsyncConnection, machine_id: MachineId, up_to: int) -> None:
    """Those up to this number were applied."""
    await connection.execute(_DROP, {"machine_id": machine_id, "up_to": up_to})


class Waiting(Struct, frozen=True):
    """`partitions` that have something to be tried now; `parked`: how many machines are parked, in all partitions."""

    partitions: frozenset[int]
    parked: int


_WAITING = text(
    """
    SELECT partition FROM parked_machine WHERE next_try_at <= statement_timestamp()
    UNION
    SELECT partition FROM dead_letter d
    WHERE requested_at IS NOT NULL AND topic = ANY(CAST(:topics AS text[]))
      AND NOT EXISTS (SELECT FROM parked_machine p WHERE p.machine_id = d.machine_id)
    """
)

_HOW_MANY = text("SELECT count(*) FROM parked_machine")


async def waiting_to_be_tried(connection: AsyncConnection, topics: Collection[str]) -> Waiting:
    """Where parked machines are due, or letters of these topics are requested."""
    partitions = await connection.execute(_WAITING, {"topics": list(topics)})
    parked = await connection.execute(_HOW_MANY)
    return Waiting(frozenset(row[0] for row in partitions), parked.scalar_one())
