"""The list of call tasks, in the order in which they were opened and committed (design.md, decision 17)."""

from msgspec import Struct
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import CallState, CallTask
from telemetry_svc.store.call_tasks import load_rows
from telemetry_svc.store.cursor import Cursor, between, committed_end
from telemetry_svc.store.schema.calls import call_task
from telemetry_svc.telemetry import MachineId


class CallFilter(Struct, frozen=True):
    """Which tasks; no state = any state."""

    states: frozenset[CallState] = frozenset()
    machine_id: MachineId | None = None


async def page(
    connection: AsyncConnection, which: CallFilter, after: Cursor, limit: int
) -> list[tuple[Cursor, CallTask]]:
    """Up to `limit` tasks opened after a cursor, as they are now, each with its cursor."""
    end = await committed_end(connection)
    query = between(select(call_task).where(*_conditions(which)), call_task.c.xid, call_task.c.n, after, end, limit)
    return [(Cursor(row.xid, row.n), task) for row, task in await load_rows(connection, query)]


def _conditions(which: CallFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if which.states:
        conditions.append(call_task.c.state.in_(sorted(which.states)))
    if which.machine_id is not None:
        conditions.append(call_task.c.machine_id == which.machine_id)
    return conditions
