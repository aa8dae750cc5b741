"""Turns a batch of alerts into call tasks, inside the transaction of the consumer that read them.

Read everything the batch needs, decide alert by alert in topic order, write everything: three round trips of reading
and a few of writing, whatever the size of the batch. An alert that was seen before changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import CallTask, Change, MachineContext
from telemetry_svc.events import Alert
from telemetry_svc.notify.announce import record
from telemetry_svc.notify.decide import decide
from telemetry_svc.notify.matters import Matter, NotUnderstood, matter_of
from telemetry_svc.notify.queues import Queues
from telemetry_svc.store import call_tasks
from telemetry_svc.store.call_tasks import Subject
from telemetry_svc.telemetry import MachineId


class RejectedAlert(Struct, frozen=True):
    """An alert for a dead letter (`invalid`); `place` is its index in the batch, `message` fit for a header."""

    place: int
    message: str


class _Batch:
    """What a batch knows and has decided so far."""

    def __init__(
        self,
        contexts: dict[MachineId, MachineContext],
        tasks: dict[MachineId, CallTask],
        reached: dict[Subject, int],
    ) -> None:
        self.contexts = contexts
        self.tasks = tasks
        self.reached = reached
        self.changes: list[Change] = []
        self.moved: dict[Subject, int] = {}

    def take(self, machine_id: MachineId, matter: Matter, changes: tuple[Change, ...]) -> None:
        for change in changes:
            self.changes.append(change)
            self.tasks[machine_id] = change.task
            if change.task.is_final:
                del self.tasks[machine_id]
        subject = Subject(machine_id, matter.subject)
        if matter.calls and matter.rank > self.reached.get(subject, 0):
            self.reached[subject] = self.moved[subject] = matter.rank


class Notifier:
    """The handler of the alert topics."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def apply(
        self, connection: AsyncConnection, alerts: Sequence[Alert], now: datetime
    ) -> tuple[RejectedAlert, ...]:
        """Applies alerts in topic order (at most 5 000) and returns those that made no sense. Never commits."""
        read = [matter_of(alert, self._queues.of(alert.data.policy_edition).priorities, now) for alert in alerts]
        matters = [
            (alert, matter)
            for alert, matter in zip(alerts, read, strict=True)
            if isinstance(matter, Matter) and matter.calls
        ]
        if matters:
            await self._decide_all(connection, matters, now)
        return tuple(
            RejectedAlert(place, matter.message)
            for place, matter in enumerate(read)
            if isinstance(matter, NotUnderstood)
        )

    async def _decide_all(
        self, connection: AsyncConnection, matters: Sequence[tuple[Alert, Matter]], now: datetime
    ) -> None:
        batch = await _load(connection, matters)
        for alert, matter in matters:
            context = batch.contexts.get(alert.machine_id) or MachineContext(alert.data.policy_edition)
            task = batch.tasks.get(alert.machine_id)
            reached = batch.reached.get(Subject(alert.machine_id, matter.subject), 0)
            queue = self._queues.of(context.edition)
            changes = decide(alert.machine_id, task, matter, reached, context, queue, now)
            batch.take(alert.machine_id, matter, changes)
        await record(connection, batch.changes, batch.moved)


async def _load(connection: AsyncConnection, matters: Sequence[tuple[Alert, Matter]]) -> _Batch:
    machine_ids = {alert.machine_id for alert, _ in matters}
    subjects = {Subject(alert.machine_id, matter.subject) for alert, matter in matters}
    return _Batch(
        contexts=await call_tasks.lock_contexts(connection, machine_ids),
        tasks=await call_tasks.lock_open(connection, machine_ids),
        reached=await call_tasks.reached(connection, subjects),
    )
