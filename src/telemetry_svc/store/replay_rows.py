"""What a replay reads: a machine's stored pings and commands in the order in which they were decided, and its facts.

`apply_seq` is that order (design.md, decision 8). Pings that were taken up when their machine was registered carry the
registration's number and come after it by `received_at` and offset, as ingest decided them.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import Select, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.telemetry import command, event, machine_state, ping, ping_outlier
from telemetry_svc.telemetry import Fault, MachineId, Ping, Position, Reading, Sensors
from telemetry_svc.units import Centihours

PINGS_AT_ONCE = 5_000
_FAULTS = tuple[Fault, ...]
_NO_SENSORS = Sensors()


class StoredReading(Struct, frozen=True, gc=False):
    """A ping of history as the rules were given it, and its offset in the topic."""

    apply_seq: int
    topic_offset: int
    reading: Reading


class StoredCommand(Struct, frozen=True):
    """An applied command: `body` as its JSON values, `received_at` the broker's append time."""

    apply_seq: int
    received_at: datetime
    kind: str
    body: dict[str, Any]


class StoredEvent(Struct, frozen=True):
    """A fact as it is known outside; `n` rises in the order in which a machine's facts were stored."""

    id: UUID
    n: int
    decided_at: datetime
    by_replay: bool
    body: dict[str, Any]


class StoredState(Struct, frozen=True):
    """What ingest remembers of a machine."""

    state: bytes
    next_check_at: datetime | None


async def machines_with_state(connection: AsyncConnection, after: str, limit: int) -> list[MachineId]:
    """Machines that ingest knows, by id, after the id `after`."""
    query = select(machine_state.c.machine_id).where(machine_state.c.machine_id > after)
    rows = await connection.scalars(query.order_by(machine_state.c.machine_id).limit(limit))
    return [MachineId(machine_id) for machine_id in rows]


async def stored_state(connection: AsyncConnection, machine_id: MachineId) -> StoredState | None:
    """The state as ingest wrote it last."""
    query = select(machine_state.c.state, machine_state.c.next_check_at).where(machine_state.c.machine_id == machine_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else StoredState(*row)


async def applied_commands(connection: AsyncConnection, machine_id: MachineId, after_seq: int) -> list[StoredCommand]:
    """The commands that ingest applied after `after_seq`, in order; refused ones changed nothing."""
    columns = (command.c.apply_seq, command.c.received_at, command.c.kind, command.c.body)
    query = select(*columns).where(
        command.c.machine_id == machine_id, command.c.status == "applied", command.c.apply_seq > after_seq
    )
    return [StoredCommand(*row) for row in await connection.execute(query.order_by(command.c.apply_seq))]


async def stored_events(connection: AsyncConnection, machine_id: MachineId) -> list[StoredEvent]:
    """Every fact of the machine, in the order in which they were stored."""
    columns = (event.c.id, event.c.n, event.c.decided_at, event.c.by_replay, event.c.body)
    query = select(*columns).where(event.c.machine_id == machine_id).order_by(event.c.n)
    return [StoredEvent(*row) for row in await connection.execute(query)]


async def stored_readings(
    connection: AsyncConnection, machine_id: MachineId, after_seq: int
) -> AsyncIterator[Sequence[StoredReading]]:
    """The pings decided after `after_seq`, from history and outliers, in order, page by page."""
    result = await connection.stream(
        readings_query(machine_id, after_seq), execution_options={"yield_per": PINGS_AT_ONCE}
    )
    async for rows in result.partitions(PINGS_AT_ONCE):
        yield [_stored(row) for row in rows]


def readings_query(machine_id: MachineId, after_seq: int) -> Select[Any]:
    """The rows of `stored_readings`."""
    parts = [
        select(table).where(table.c.machine_id == machine_id, table.c.apply_seq > after_seq)
        for table in (ping, ping_outlier)
    ]
    both = union_all(*parts).subquery()
    return select(both).order_by(both.c.apply_seq, both.c.received_at, both.c.topic_offset)


async def read_at_leisure(connection: AsyncConnection) -> None:
    """For this transaction: history may be long, and a reader holds no fence."""
    await connection.execute(text("SET LOCAL transaction_timeout = 0"))


def _stored(row: Any) -> StoredReading:
    reading = Reading(ping_of(row), row.received_at, row.future)
    return StoredReading(row.apply_seq, row.topic_offset, reading)


def ping_of(row: Any) -> Ping:
    """The ping of a row of `ping` or `ping_outlier` as it was decoded: what was absent is absent again."""
    position = None
    if row.latitude_deg is not None:
        position = Position(row.latitude_deg, row.longitude_deg, row.altitude_m, row.speed_kmh, row.heading_deg)
    sensors = Sensors(row.coolant_temperature_c, row.oil_pressure_kpa, row.fuel_level_pct, row.battery_v)
    return Ping(
        machine_id=MachineId(row.machine_id),
        recorded_at=row.recorded_at,
        hour_meter_ch=None if row.hour_meter_ch is None else Centihours(row.hour_meter_ch),
        position=position,
        faults=None if row.faults is None else msgspec.convert(row.faults, _FAULTS),
        sensors=None if sensors == _NO_SENSORS else sensors,
        engine_running=row.engine_running,
        device_id=row.device_id,
        sequence=row.sequence,
    )
