"""Which machines are bound to which edition of the policy: whom a change of a file would touch, or a missing file."""

from collections.abc import Collection
from datetime import date

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.registry import machine
from telemetry_svc.telemetry import EditionId, MachineId


class BoundMachine(Struct, frozen=True):
    """A registered machine as far as a difference of policies asks about it. `tonnage_t`: operating weight."""

    machine_id: MachineId
    edition: EditionId
    tonnage_t: float
    delivered_on: date | None
    has_geofence: bool
    has_permitted_hours: bool


async def bound_to(connection: AsyncConnection, editions: Collection[EditionId]) -> list[BoundMachine]:
    """Every machine bound to one of these editions, by id."""
    columns = (
        *(machine.c.machine_id, machine.c.policy_edition, machine.c.tonnage_t, machine.c.delivered_on),
        *(machine.c.geofence, machine.c.permitted_hours),
    )
    query = select(*columns).where(machine.c.policy_edition.in_(editions)).order_by(machine.c.machine_id)
    return [
        BoundMachine(MachineId(row[0]), EditionId(row[1]), row[2], row[3], bool(row[4]), bool(row[5]))
        for row in await connection.execute(query)
    ]


async def bound_elsewhere(connection: AsyncConnection, editions: Collection[EditionId]) -> dict[EditionId, int]:
    """How many machines are bound to each edition that is none of these."""
    query = (
        select(machine.c.policy_edition, func.count())
        .where(machine.c.policy_edition.not_in(editions))
        .group_by(machine.c.policy_edition)
        .order_by(machine.c.policy_edition)
    )
    return {EditionId(edition): number for edition, number in await connection.execute(query)}
