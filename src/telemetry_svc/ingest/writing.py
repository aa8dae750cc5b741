"""What the desk laid out, written set-based into the batch's transaction."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.clock import rfc3339_ms
from telemetry_svc.codec import cloudevent
from telemetry_svc.events import MAINTENANCE_DUE_TYPE, Event
from telemetry_svc.ingest.desk import Desk, Refused
from telemetry_svc.rules import encode_state
from telemetry_svc.store.command_outcomes import settle_commands
from telemetry_svc.store.dead_letters import HEADER_LIMIT, VALUE_LIMIT, DeadLetter, add_dead_letters
from telemetry_svc.store.events import EventRow, add_events
from telemetry_svc.store.history import add_pings
from telemetry_svc.store.outbox import OutboxMessage, enqueue
from telemetry_svc.store.states import StateRow, save_states


async def write(connection: AsyncConnection, desk: Desk) -> None:
    """All of it, in the order in which a reader would look for it. The fence was the transaction's first statement."""
    await add_pings(connection, "ping", desk.pings)
    await add_pings(connection, "ping_outlier", desk.outliers)
    await save_states(connection, _state_rows(desk), new=bool(desk.registered))
    await settle_commands(connection, desk.outcomes)
    await _raise_events(connection, desk.events)
    await _bury(connection, desk.refused)


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
    )


async def _bury(connection: AsyncConnection, refused: Sequence[Refused]) -> None:
    if not refused:
        return
    letters = [dead_letter(one) for one in refused]
    new = await add_dead_letters(connection, letters)
    await enqueue(
        connection,
        [dead_letter_message(letter) for letter in letters if (letter.topic, letter.partition, letter.offset) in new],
    )


def dead_letter(one: Refused) -> DeadLetter:
    """The original bytes, cut where they are too long, and why they were refused."""
    record = one.record
    value = record.value
    cut = value is not None and len(value) > VALUE_LIMIT
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error_class=one.why.error_class,
        error_message=one.why.message,
        timestamp=one.received_at,
        key=None if record.key is None else record.key[:HEADER_LIMIT],
        value=value[:VALUE_LIMIT] if value is not None and cut else value,
        original_length=len(value) if value is not None and cut else None,
        headers=tuple((name[:HEADER_LIMIT], (content or b"")[:HEADER_LIMIT]) for name, content in record.headers),
        machine_id=one.machine_id,
    )


def dead_letter_message(letter: DeadLetter) -> OutboxMessage:
    """The record for `excavator.dead-letters` (contract.md, Topics): the original first, our headers after it."""
    reasons = {
        "x-error-class": letter.error_class,
        "x-error-message": letter.error_message,
        "x-original-topic": letter.topic,
        "x-original-partition": str(letter.partition),
        "x-original-offset": str(letter.offset),
        "x-original-timestamp": rfc3339_ms(letter.timestamp),
    }
    if letter.original_length is not None:
        reasons["x-original-length"] = str(letter.original_length)
    ours = tuple((name, text.encode()) for name, text in reasons.items())
    key = letter.key
    return OutboxMessage(
        topics.DEAD_LETTERS, key, letter.value, letter.headers + ours, None if key is not None else letter.partition
    )
