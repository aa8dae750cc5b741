"""What the desk laid out, written set-based into the batch's transaction."""

from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.codec import cloudevent
from telemetry_svc.events import MAINTENANCE_DUE_TYPE, Event
from telemetry_svc.ingest.desk import Desk
from telemetry_svc.rules import encode_state
from telemetry_svc.store.command_outcomes import settle_commands
from telemetry_svc.store.events import EventRow, add_events
from telemetry_svc.store.history import add_pings
from telemetry_svc.store.outbox import OutboxMessage, enqueue
from telemetry_svc.store.states import StateRow, save_states
from telemetry_svc.stream.dead_letters import bury

_EVIDENCE = msgspec.json.Encoder()


async def write(connection: AsyncConnection, desk: Desk) -> None:
    """All of it, in the order in which a reader would look for it. The fence was the transaction's first statement."""
    await add_pings(connection, "ping", desk.pings)
    await add_pings(connection, "ping_outlier", desk.outliers)
    await save_states(connection, _state_rows(desk), new=bool(desk.registered))
    await settle_commands(connection, desk.outcomes)
    await _raise_events(connection, desk.events)
    await bury(connection, desk.refused)


def _state_rows(desk: Desk) -> list[StateRow]:
    return [
        StateRow(machine_id, partition, desk.states[machine_id].next_check_at, encode_state(desk.states[machine_id]))
        for machine_id, partition in desk.touched.items()
    ]


async def _raise_events(connection: AsyncConnection, events: Sequence[Event]) -> None:
    if not events:
        return
    bodies = [cloudevent.encode(event) for event in events]
    new = await add_events(connection, [_event_row(event, body) for event, body in zip(events, bodies, strict=True)])
    outgoing = []
    for event, body in zip(events, bodies, strict=True):
        if event.id in new:
            new.discard(event.id)
            topic = topics.MAINTENANCE_DUE if event.type == MAINTENANCE_DUE_TYPE else topics.ANOMALY
            outgoing.append(OutboxMessage(topic, event.machine_id.encode(), body, cloudevent.HEADERS))
    await enqueue(connection, outgoing)


def _event_row(event: Event, body: bytes) -> EventRow:
    return EventRow(
        machine_id=event.machine_id,
        id=event.id,
        type=event.type,
        rule=event.rule,
        subject=event.subject,
        stage=event.stage,
        time=event.time,
        body=body.decode(),
        evidence=_EVIDENCE.encode(event.evidence).decode(),
    )
