"""A call task as the outside world sees it, and the announcement of each of its changes on `excavator.calls`.

One shape for both, so that the call-centre system finds over HTTP exactly what it was told on the topic. No personal
data: whom to call is told in the answer of a claim and nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.calls import CALL_TASK_TYPE, CallTask, Change, Reason
from telemetry_svc.codec.cloudevent import HEADERS, NOTIFY_SOURCE, Envelope
from telemetry_svc.store import call_tasks
from telemetry_svc.store.call_tasks import Subject
from telemetry_svc.store.outbox import OutboxMessage, enqueue

_TASK_FIELDS = (
    "task_id",
    "machine_id",
    "customer_id",
    "state",
    "state_reason",
    "priority",
    "assigned_to",
    "attempts",
    "not_before",
    "offered_at",
    "due_at",
    "flagged",
    "created_at",
    "changed_at",
)
_REASON_FIELDS = ("alert_id", "type", "kind", "stage", "phase", "milestone_h", "severity", "summary")


def task_data(task: CallTask) -> dict[str, Any]:
    """The fields of a task by contract.md (Calls), and `flagged`: in a call whose cause went away."""
    data = {name: getattr(task, name) for name in _TASK_FIELDS}
    return data | {"reasons": [_reason_data(reason) for reason in task.reasons]}


def _reason_data(reason: Reason) -> dict[str, Any]:
    return {name: getattr(reason, name) for name in _REASON_FIELDS}


def message_of(change: Change) -> OutboxMessage:
    """The announcement of a change; its id is new each time."""
    task = change.task
    envelope = Envelope(
        id=uuid4(),
        source=NOTIFY_SOURCE,
        type=CALL_TASK_TYPE,
        subject=str(task.task_id),
        time=change.at,
        partitionkey=task.machine_id,
        data=task_data(task),
    )
    return OutboxMessage(topics.CALLS, task.machine_id.encode(), msgspec.json.encode(envelope), HEADERS)


async def record(
    connection: AsyncConnection, changes: Sequence[Change], subjects_reached: Mapping[Subject, int] | None = None
) -> None:
    """Makes the changes durable and lets them be told, in the caller's transaction."""
    await call_tasks.save(connection, changes, subjects_reached or {})
    await announce(connection, changes)


async def announce(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Lets changes be told that are stored already."""
    await enqueue(connection, [message_of(change) for change in changes])
