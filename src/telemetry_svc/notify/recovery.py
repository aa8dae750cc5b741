"""Call tasks as `excavator.calls` tells them, for a database that was set back (faults.md, 48; design.md, decision 17).

The topic holds every change of every task, so what the database has forgotten is there: a call that was made must not
be made again. A change is lost where the history has no line of it. The last change told of a task tells its state, its
reasons and what was agreed; who said what stays lost. A told end counts whatever was told later: where a restore was
not noticed, the task was offered anew.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import (
    CALL_TASK_TYPE,
    AlertId,
    CallState,
    CallTask,
    Change,
    ExpertId,
    MachineContext,
    Reason,
    ReasonEnd,
    StateReason,
    Step,
    TaskId,
    rest_id_of,
)
from telemetry_svc.events import Alert
from telemetry_svc.notify import lifecycle
from telemetry_svc.notify.announce import record
from telemetry_svc.notify.matters import Matter, matter_of
from telemetry_svc.notify.queues import Queues
from telemetry_svc.rules.service_terms import CallQueueBlock
from telemetry_svc.store import call_tasks
from telemetry_svc.store.call_tasks import Subject
from telemetry_svc.telemetry import EditionId, MachineId


class ToldReason(Struct, frozen=True):
    """A reason as the topic shows it."""

    alert_id: UUID
    type: str
    kind: str
    summary: str
    stage: str | None = None
    phase: str | None = None
    milestone_h: int | None = None
    severity: str | None = None


class Told(Struct, frozen=True):
    """One change of a task as the topic shows it (contract.md, Calls)."""

    task_id: UUID
    machine_id: str
    state: CallState
    priority: int
    attempts: int
    created_at: datetime
    changed_at: datetime
    reasons: list[ToldReason]
    state_reason: StateReason | None = None
    assigned_to: str | None = None
    not_before: datetime | None = None
    offered_at: datetime | None = None
    due_at: datetime | None = None
    flagged: bool = False

    @property
    def is_final(self) -> bool:
        return self.state in {CallState.COMPLETED, CallState.CANCELLED}


class _Envelope(Struct, frozen=True):
    type: str
    data: Raw


class Recovered(Struct, frozen=True):
    """What was done for a machine: the changes, and tasks that could not be put beside another open one."""

    changes: tuple[Change, ...]
    left_out: tuple[TaskId, ...] = ()


class Memory(Struct, frozen=True):
    """What the database and the alert topics still know of a machine."""

    tasks: Mapping[TaskId, CallTask]
    reasons: Mapping[AlertId, Reason]
    matters: Mapping[AlertId, Matter]
    context: MachineContext


def told_by(value: bytes | None) -> Told | None:
    """A record of `excavator.calls`; None where it tells of no task."""
    try:
        envelope = msgspec.json.decode(value or b"", type=_Envelope)
        return msgspec.json.decode(envelope.data, type=Told) if envelope.type == CALL_TASK_TYPE else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


async def lost_among(connection: AsyncConnection, told: Collection[Told]) -> dict[MachineId, list[Told]]:
    """Everything told of the machines of which the history lacks a change, in order."""
    known = await call_tasks.known_changes(connection, {(one.machine_id, one.task_id) for one in told})
    machines = {one.machine_id for one in told if (one.task_id, one.changed_at) not in known}
    lost: dict[MachineId, list[Told]] = {}
    for one in sorted((one for one in told if one.machine_id in machines), key=lambda one: one.changed_at):
        lost.setdefault(MachineId(one.machine_id), []).append(one)
    return lost


async def recover_machine(
    connection: AsyncConnection, machine_id: MachineId, told: Sequence[Told], alerts: Collection[Alert], queues: Queues
) -> Recovered:
    """Puts a machine's tasks back as they were told, and lets that be told. Never commits."""
    now = await call_tasks.clock(connection)
    contexts = await call_tasks.lock_contexts(connection, [machine_id])
    context = contexts.get(machine_id) or MachineContext(_edition(alerts, queues))
    queue = queues.of(context.edition)
    read = {AlertId(alert.id): matter_of(alert, queue.priorities, now) for alert in alerts}
    memory = Memory(
        tasks=await call_tasks.lock_all(connection, machine_id),
        reasons=await call_tasks.all_reasons(connection, machine_id),
        matters={alert_id: matter for alert_id, matter in read.items() if isinstance(matter, Matter)},
        context=context,
    )
    recovered = recover(machine_id, told, memory, queue, now)
    await record(connection, recovered.changes, await _reached(connection, machine_id, recovered.changes, memory))
    return recovered


def _edition(alerts: Collection[Alert], queues: Queues) -> EditionId:
    return next((alert.data.policy_edition for alert in alerts), queues.default)


async def _reached(
    connection: AsyncConnection, machine_id: MachineId, changes: Sequence[Change], memory: Memory
) -> dict[Subject, int]:
    """How far the subjects of the reasons came, so that their alerts, read again, are old news."""
    ids = {reason.alert_id for change in changes for reason in change.touched}
    ranks: dict[Subject, int] = {}
    for alert_id in ids & memory.matters.keys():
        matter = memory.matters[alert_id]
        subject = Subject(machine_id, matter.subject)
        ranks[subject] = max(matter.rank, ranks.get(subject, 0))
    known = await call_tasks.reached(connection, ranks.keys())
    return {subject: max(rank, known.get(subject, 0)) for subject, rank in ranks.items()}


def recover(
    machine_id: MachineId, told: Sequence[Told], memory: Memory, queue: CallQueueBlock, now: datetime
) -> Recovered:
    """The changes that bring a machine's tasks to where the topic left them. Pure."""
    last = _decisive(told)
    changes = [
        _changed(machine_id, one, told, memory, queue, now) for one in last.values() if _is_lost(one, memory.tasks)
    ]
    changes.sort(key=lambda change: not change.task.is_final)  # a machine has one open task: the ended ones first
    others = [task for task in memory.tasks.values() if not task.is_final and task.task_id not in last]
    settled = frozenset(r.alert_id for change in changes for r in change.task.reasons if change.task.is_final)
    ends = [
        end
        for task in others
        if (end := lifecycle.reasons_ended(task, settled, ReasonEnd.SETTLED, queue, now)) is not None
    ]
    still_open = {task.task_id for task in others} - {end.task.task_id for end in ends if end.task.is_final}
    if not still_open:
        return Recovered((*ends, *changes, *_called_about_anew(changes, last, memory, queue, now)))
    beside = tuple(change for change in changes if not change.task.is_final)
    kept = tuple(change for change in changes if change.task.is_final)
    return Recovered((*ends, *kept), tuple(change.task.task_id for change in beside))


_COUNTS = {CallState.COMPLETED: 2, CallState.CANCELLED: 1}


def _decisive(told: Sequence[Told]) -> dict[TaskId, Told]:
    """What counts of each task: that it was completed, else that it was cancelled, else what was told last."""
    found: dict[TaskId, Told] = {}
    for one in told:
        before = found.get(TaskId(one.task_id))
        if before is None or _COUNTS.get(one.state, 0) >= _COUNTS.get(before.state, 0):
            found[TaskId(one.task_id)] = one
    return found


def _since_its_end(before: CallTask | None, one: Told) -> tuple[Reason, ...]:
    """Reasons that joined a task after the end that was told of it."""
    if before is None or not one.is_final:
        return ()
    return tuple(reason for reason in before.open_reasons if reason.joined_at > one.changed_at)


def _called_about_anew(
    changes: Sequence[Change], last: Mapping[TaskId, Told], memory: Memory, queue: CallQueueBlock, now: datetime
) -> Iterator[Change]:
    """Those reasons were in no call: they open a task, or join the open one."""
    task = next((change.task for change in changes if not change.task.is_final), None)
    for change in changes:
        here = change.task
        for reason in _since_its_end(memory.tasks.get(here.task_id), last[here.task_id]):
            anew = replace(reason, joined_at=now, place=0, shown=False)
            if task is None:
                more = lifecycle.opened(here.machine_id, anew, memory.context, queue)
            else:
                more = lifecycle.joined(task, anew, queue)
            task = more.task
            yield more


def _is_lost(one: Told, tasks: Mapping[TaskId, CallTask]) -> bool:
    here = tasks.get(TaskId(one.task_id))
    if here is None:
        return True
    return not here.is_final and (one.is_final or one.changed_at > here.changed_at)


def _changed(
    machine_id: MachineId, one: Told, told: Sequence[Told], memory: Memory, queue: CallQueueBlock, now: datetime
) -> Change:
    before = memory.tasks.get(TaskId(one.task_id))
    blank = CallTask(
        task_id=TaskId(one.task_id),
        machine_id=machine_id,
        edition=memory.context.edition,
        state=one.state,
        priority=one.priority,
        created_at=one.created_at,
        changed_at=one.changed_at,
    )
    task = replace(
        lifecycle.in_context(before or blank, memory.context),
        state=one.state,
        state_reason=one.state_reason,
        attempts=one.attempts,
        not_before=one.not_before,
        offered_at=one.offered_at,
        due_at=one.due_at,
        callback_at=one.not_before if one.state is CallState.CALLBACK_SCHEDULED else None,
        reasons=tuple(_reasons(one, told, memory, now)),
    )
    task = lifecycle.placed(replace(_held(task, one, queue, now), priority=one.priority), queue)
    return lifecycle.change(before, task, Step.RECOVERED, now, f"told as {one.state} before the restore")


def _held(task: CallTask, one: Told, queue: CallQueueBlock, now: datetime) -> CallTask:
    """Whoever held the call has it, without his token: as long as a lease can be nobody else may make the same call."""
    if one.state is CallState.CLAIMED:
        until = now + timedelta(seconds=queue.lease_max_s)
        return replace(task, leased_to=_expert(one), lease_token=uuid4(), lease_expires_at=until)
    leased_to = _expert(one) if one.state is CallState.COMPLETED else None
    return replace(task, leased_to=leased_to, lease_token=None, lease_expires_at=None)


def _expert(one: Told) -> ExpertId | None:
    return None if one.assigned_to is None else ExpertId(one.assigned_to)


def _reasons(one: Told, told: Sequence[Told], memory: Memory, now: datetime) -> Iterator[Reason]:
    """Those that the task showed last, in their order, and before them those that had left the list."""
    since = _since_its_end(memory.tasks.get(TaskId(one.task_id)), one)
    for joined in since:
        yield replace(joined, listed=False, ended=ReasonEnd.CARRIED, ended_at=now)
    listed = [reason.alert_id for reason in one.reasons] + [joined.alert_id for joined in since]
    earlier = {r.alert_id: r for other in told if other.task_id == one.task_id for r in other.reasons}
    for alert_id, reason in earlier.items():
        if alert_id not in listed:
            known = _known(reason, one, memory, now)
            yield replace(known, listed=False, ended=ReasonEnd.REPLACED, ended_at=one.changed_at)
    carried = {r.alert_id for other in told if other.task_id == rest_id_of(TaskId(one.task_id)) for r in other.reasons}
    for place, reason in enumerate(one.reasons):
        end = _end(one, carried=reason.alert_id in carried)
        known = _known(reason, one, memory, now)
        yield replace(known, place=place, listed=True, ended=end, ended_at=None if end is None else one.changed_at)


def _end(one: Told, *, carried: bool) -> ReasonEnd | None:
    if one.state is CallState.COMPLETED:
        return ReasonEnd.CARRIED if carried else ReasonEnd.SETTLED
    return ReasonEnd.CLEARED if one.flagged or one.is_final else None


def _known(reason: ToldReason, one: Told, memory: Memory, now: datetime) -> Reason:
    """The reason as the database or its alert has it; else as it was told, by a subject of its own."""
    alert_id = AlertId(reason.alert_id)
    matter = memory.matters.get(alert_id)
    known = memory.reasons.get(alert_id) or (None if matter is None else matter.reason)
    if known is not None:
        return known
    shown = {name: getattr(reason, name) for name in ToldReason.__struct_fields__ if name != "alert_id"}
    return Reason(alert_id=alert_id, subject=f"told|{alert_id}", priority=one.priority, joined_at=now, **shown)
