"""The registry of machines, without anything personal."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.cursor import Cursor, between, committed_end
from telemetry_svc.store.schema.registry import machine
from telemetry_svc.store.schema.telemetry import machine_state
from telemetry_svc.telemetry import EditionId, Geofence, Machine, MachineId, MachineStatus, PermittedHours
from telemetry_svc.units import Centihours


class MachineRow(Struct, frozen=True):
    """A registration: what the rules may know (`machine`), and what only people and routing need."""

    machine: Machine
    registered_at: datetime
    changed_at: datetime
    model: str | None = None
    device_ids: tuple[str, ...] = ()
    expert_id: str | None = None
    team_id: str | None = None


async def insert_new(connection: AsyncConnection, rows: Sequence[MachineRow]) -> frozenset[MachineId]:
    """Registers those that are not known yet and returns their ids; waits for whoever is registering one right now."""
    if not rows:
        return frozenset()
    values = [_values(row) for row in sorted(rows, key=lambda row: row.machine.machine_id)]
    statement = insert(machine).values(values).on_conflict_do_nothing().returning(machine.c.machine_id)
    return frozenset(MachineId(machine_id) for machine_id in await connection.scalars(statement))


async def lock(connection: AsyncConnection, machine_ids: Collection[MachineId]) -> dict[MachineId, MachineRow]:
    """The registrations of these machines, held against change until the transaction ends; unknown ones are absent."""
    query = select(machine).where(machine.c.machine_id.in_(machine_ids)).order_by(machine.c.machine_id)
    rows = [_row(row) for row in await connection.execute(query.with_for_update(key_share=True))]
    return {row.machine.machine_id: row for row in rows}


async def change(connection: AsyncConnection, rows: Sequence[MachineRow]) -> None:
    """Writes what changed of machines that `lock` holds."""
    if not rows:
        return
    values = [{f"new_{name}": value for name, value in _values(row).items()} for row in rows]
    columns: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in values[0]}
    del columns["machine_id"], columns["registered_at"]
    statement = update(machine).where(machine.c.machine_id == bindparam("new_machine_id")).values(columns)
    await connection.execute(statement, values)


async def get(connection: AsyncConnection, machine_id: MachineId) -> MachineRow | None:
    """One registration."""
    row = (await connection.execute(select(machine).where(machine.c.machine_id == machine_id))).one_or_none()
    return None if row is None else _row(row)


async def state_of(connection: AsyncConnection, machine_id: MachineId) -> bytes | None:
    """The remembered state as ingest wrote it (`rules` decodes it); None before the registration is applied."""
    query = select(machine_state.c.state).where(machine_state.c.machine_id == machine_id)
    state: bytes | None = await connection.scalar(query)
    return state


async def page(connection: AsyncConnection, after: Cursor, limit: int) -> list[tuple[Cursor, MachineRow]]:
    """Up to `limit` registrations after a cursor, in the order in which they were registered."""
    end = await committed_end(connection)
    rows = await connection.execute(page_query(after, end, limit))
    return [(Cursor(row.xid, row.n), _row(row)) for row in rows]


def page_query(after: Cursor, end: Cursor, limit: int) -> Select[Any]:
    """The rows of a page."""
    return between(select(machine), machine.c.xid, machine.c.n, after, end, limit)


def _values(row: MachineRow) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: getattr(row.machine, name)
        for name in (
            "machine_id",
            "tonnage_t",
            "policy_edition",
            "time_zone",
            "delivered_on",
            "initial_ch",
            "customer_id",
        )
    }
    return values | {
        "status": row.machine.status.value,
        "geofence": msgspec.to_builtins(row.machine.geofence),
        "permitted_hours": msgspec.to_builtins(row.machine.permitted_hours),
        "registered_at": row.registered_at,
        "changed_at": row.changed_at,
        "model": row.model,
        "device_ids": list(row.device_ids),
        "expert_id": row.expert_id,
        "team_id": row.team_id,
    }


def _row(row: Any) -> MachineRow:
    return MachineRow(
        machine=Machine(
            machine_id=MachineId(row.machine_id),
            tonnage_t=row.tonnage_t,
            policy_edition=EditionId(row.policy_edition),
            time_zone=row.time_zone,
            delivered_on=row.delivered_on,
            initial_ch=Centihours(row.initial_ch),
            status=MachineStatus(row.status),
            customer_id=row.customer_id,
            geofence=msgspec.convert(row.geofence, Geofence | None),
            permitted_hours=msgspec.convert(row.permitted_hours, tuple[PermittedHours, ...]),
        ),
        registered_at=row.registered_at,
        changed_at=row.changed_at,
        model=row.model,
        device_ids=tuple(row.device_ids),
        expert_id=row.expert_id,
        team_id=row.team_id,
    )
