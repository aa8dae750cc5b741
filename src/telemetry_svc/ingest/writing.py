"""What the desk laid out, written set-based into the batch's transaction."""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.ingest.desk import Desk
from telemetry_svc.rules import encode_state
from telemetry_svc.store.command_outcomes import settle_commands
from telemetry_svc.store.history import add_pings
from telemetry_svc.store.parked import hold, park
from telemetry_svc.store.raising import raise_events
from telemetry_svc.store.states import StateRow, save_states
from telemetry_svc.stream.dead_letters import bury
from telemetry_svc.telemetry import MachineId


async def write(connection: AsyncConnection, desk: Desk, retry_every: timedelta) -> None:
    """All of it, in the order in which a reader would look for it. The fence was the transaction's first statement."""
    await add_pings(connection, "ping", desk.pings)
    await add_pings(connection, "ping_outlier", desk.outliers)
    await save_states(connection, _state_rows(desk), new=bool(desk.registered))
    await settle_commands(connection, desk.outcomes)
    await raise_events(connection, desk.events)
    await bury(connection, desk.refused)
    await park(connection, list(desk.parkings.values()), retry_every)
    await hold(connection, desk.held)


def _state_rows(desk: Desk) -> list[StateRow]:
    return [_state_row(desk, machine_id, partition) for machine_id, partition in desk.touched.items()]


def _state_row(desk: Desk, machine_id: MachineId, partition: int) -> StateRow:
    """A machine whose tick failed is due later than its state says: it must not be found first again and again."""
    state = desk.states[machine_id]
    due_at = desk.postponed.get(machine_id, state.next_check_at)
    return StateRow(machine_id, partition, due_at, encode_state(state))
