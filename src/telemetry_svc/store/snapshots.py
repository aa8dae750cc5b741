"""States kept now and then, so that a replay need not begin at a machine's registration years ago.

Taken on the tick path, once a minute and partition, for the few machines whose last one is old: an ordinary batch pays
nothing for it. A machine's own snapshots older than its telemetry go when the next one is taken.
"""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import TextClause, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.history import KEPT
from telemetry_svc.store.schema.telemetry import machine_snapshot
from telemetry_svc.telemetry import MachineId

EVERY = timedelta(days=30)
AT_ONCE = 500


class Snapshot(Struct, frozen=True):
    """`state` as the rules encode it; every input received before `taken_at`, up to `apply_seq`, is in it.

    `event_n`: the machine's events up to this number were decided before it.
    """

    apply_seq: int
    taken_at: datetime
    event_n: int
    state: bytes


_TAKE = text(
    """
    WITH due AS (
        SELECT machine_id, state FROM machine_state s
        WHERE partition = :partition AND snapshot_at <= :due_before
          AND NOT EXISTS (SELECT FROM parked_machine p WHERE p.machine_id = s.machine_id OFFSET 0)
        ORDER BY snapshot_at LIMIT :at_most
    ), dropped AS (
        DELETE FROM machine_snapshot s USING due WHERE s.machine_id = due.machine_id AND s.taken_at < :kept_from
    ), kept AS (
        INSERT INTO machine_snapshot (machine_id, apply_seq, taken_at, event_n, state)
        SELECT machine_id, :apply_seq, :at,
               COALESCE(pg_sequence_last_value(pg_get_serial_sequence('event', 'n')), 0), state
        FROM due
        ON CONFLICT (machine_id, apply_seq) DO NOTHING
    )
    UPDATE machine_state m SET snapshot_at = :at FROM due WHERE m.machine_id = due.machine_id
    """
)


async def take_snapshots(
    connection: AsyncConnection, partition: int, at: datetime, apply_seq: int, *, at_most: int = AT_ONCE
) -> None:
    """Keeps the states of machines whose last snapshot is over 30 days old by the broker's clock `at`, oldest first.

    Not of those parked, for what is held of them is received, and not in their state.

    Comes last in the partition owner's transaction: states and events of everything up to `apply_seq` are written.
    """
    limits = {"due_before": at - EVERY, "kept_from": at - KEPT, "at_most": at_most}
    await connection.execute(take_query(partition=partition, at=at, apply_seq=apply_seq, **limits))


def take_query(**values: Any) -> TextClause:
    """The statement of `take_snapshots` with its values."""
    return _TAKE.bindparams(**values)


async def last_snapshot(connection: AsyncConnection, machine_id: MachineId, before: datetime) -> Snapshot | None:
    """The newest one that was taken at `before` or earlier."""
    table = machine_snapshot
    query = (
        select(table.c.apply_seq, table.c.taken_at, table.c.event_n, table.c.state)
        .where(table.c.machine_id == machine_id, table.c.taken_at <= before)
        .order_by(table.c.taken_at.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Snapshot(*row)
