"""A decided fact becomes a row and, where it is new, a message on its way out: in one transaction, whoever decided it.

Ingest and replay both come here, so that "exactly one row per id, and only the first occurrence goes out"
(contract.md, Alerts) is said once.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.codec import cloudevent
from telemetry_svc.events import MAINTENANCE_DUE_TYPE, Event
from telemetry_svc.store.events import EventRow, add_events
from telemetry_svc.store.outbox import OutboxMessage, enqueue

_EVIDENCE = msgspec.json.Encoder()


async def raise_events(
    connection: AsyncConnection, events: Sequence[Event], *, by_replay: bool = False
) -> frozenset[UUID]:
    """Stores the facts in order and sends those that are new; returns their ids."""
    if not events:
        return frozenset()
    bodies = [cloudevent.encode(event) for event in events]
    rows = [_row(event, body, by_replay=by_replay) for event, body in zip(events, bodies, strict=True)]
    new = await add_events(connection, rows)
    unsent, outgoing = set(new), []
    for event, body in zip(events, bodies, strict=True):
        if event.id in unsent:
            unsent.discard(event.id)
            topic = topics.MAINTENANCE_DUE if event.type == MAINTENANCE_DUE_TYPE else topics.ANOMALY
            outgoing.append(OutboxMessage(topic, event.machine_id.encode(), body, cloudevent.HEADERS))
    await enqueue(connection, outgoing)
    return frozenset(new)


def rules_version(event: Event) -> str | None:
    """What decided: this service's version and behind a + the rule's own, `0.1.0+1`. `decisions` reads it back."""
    return None if event.rule_version is None else f"{_service_version()}+{event.rule_version}"


@cache
def _service_version() -> str:
    return version("telemetry-svc")


def _row(event: Event, body: bytes, *, by_replay: bool) -> EventRow:
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
        rules_version=rules_version(event),
        by_replay=by_replay,
    )
