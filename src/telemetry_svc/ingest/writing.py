"""What the desk laid out, written set-based into the batch's transaction."""

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.ingest.desk import Desk
from telemetry_svc.rules import encode_state
from telemetry_svc.store.command_outcomes import settle_commands
from telemetry_svc.store.history import add_pings
from telemetry_svc.store.raising import raise_events
from telemetry_svc.store.states import StateRow, save_states
from telemetry_svc.stream.dead_letters import bury


async def write(connection: AsyncConnection, desk: Desk) -> None:
    """All of it, in the order in which a reader would look for it. The fence was the transaction's first statement."""
    await add_pings(connection, "ping", desk.pings)
    await add_pings(connection, "ping_outlier", desk.outliers)
    await save_states(connection, _state_rows(desk), new=bool(desk.registered))
    await settle_commands(connection, desk.outcomes)
    await raise_events(connection, desk.events)
    await bury(connection, desk.refused)


def _state_rows(desk: Desk) -> list[StateRow]:
    return [
        StateRow(machine_id, partition, desk.states[machine_id].next_check_at, encode_state(desk.states[machine_id]))
        for machine_id, partition in desk.touched.items()
    ]
