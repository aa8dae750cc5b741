"""How a call task moves, as pure functions from a task to its `Change`.

Whatever happens to a task ends in `_replanned`: from the reasons, the last outcome and the registration it works out
state, priority, rank and routes anew, so that there is one place that says when a task may be offered, and to whom.
The numbers are the policy's; the times of a task are stored columns that the claim only compares (design.md, 13).
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from telemetry_svc.calls import (
    FINAL_STATES,
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
    task_id_of,
)
from telemetry_svc.rules.service_terms import CallQueueBlock, OutcomeRule
from telemetry_svc.telemetry import MachineId


def opened(machine_id: MachineId, reason: Reason, context: MachineContext, queue: CallQueueBlock) -> Change:
    """The machine's new open task, with its first reason."""
    now = reason.joined_at
    blank = CallTask(
        task_id=task_id_of(reason.alert_id),
        machine_id=machine_id,
        edition=context.edition,
        state=CallState.PENDING,
        priority=reason.priority,
        created_at=now,
        changed_at=now,
    )
    task = replace(in_context(blank, context), reasons=(reason,))
    return change(None, replanned(task, queue, now), Step.OPENED, now, reason.summary)


def joined(task: CallTask, reason: Reason, queue: CallQueueBlock) -> Change:
    """A further reason; in the place of the earlier stage of its subject where there is one."""
    now = reason.joined_at
    earlier = next((r for r in task.open_reasons if r.subject == reason.subject), None)
    place = max((r.place + 1 for r in task.reasons), default=0) if earlier is None else earlier.place
    others = tuple(_ended(r, ReasonEnd.REPLACED, now) if r is earlier else r for r in task.reasons)
    after = replace(task, reasons=_relisted((*others, replace(reason, place=place))))
    if (
        task.state is CallState.CALLBACK_SCHEDULED
        and not _is_urgent(task, queue)
        and _is_urgent(placed(after, queue), queue)
    ):
        after = replace(after, callback_at=None)  # agreed for what could wait; this cannot
    step = Step.JOINED if earlier is None else Step.REPLACED
    return change(task, replanned(after, queue, now), step, now, reason.summary)


def reasons_ended(
    task: CallTask, ids: frozenset[AlertId], end: ReasonEnd, queue: CallQueueBlock, now: datetime
) -> Change | None:
    """The cause of these reasons went away; with the last of them the task is cancelled or, in a call, flagged."""
    going = [r for r in task.open_reasons if r.alert_id in ids]
    if not going:
        return None
    reasons = tuple(_ended(r, end, now) if r in going else r for r in task.reasons)
    after = replanned(replace(task, reasons=_relisted(reasons)), queue, now)
    step = Step.FLAGGED if after.flagged else Step.CANCELLED if after.is_final else Step.ENDED
    return change(task, after, step, now, f"{end}: {'; '.join(r.summary for r in going)}")


def moved_context(task: CallTask, context: MachineContext, queue: CallQueueBlock, now: datetime) -> Change | None:
    """The registration changed: a new number lets a `no_contact` task go on as if new, the last one gone stops it."""
    after = replanned(in_context(task, context), queue, now)
    return None if after == task else change(task, after, Step.CONTEXT, now, "registration changed")


def freed(task: CallTask, step: Step, queue: CallQueueBlock, now: datetime) -> Change:
    """The lease is over without an outcome: released, rejected or lapsed. No customer attempt.

    Only a lapsed lease leaves its token valid, and `leased_to` with it.
    """
    after = replace(task, lease_expires_at=None)
    if step is not Step.LAPSED:
        after = replace(after, lease_token=None, leased_to=None)
    if step is Step.REJECTED and task.leased_to is not None:
        after = replace(after, rejected_by=(*task.rejected_by, task.leased_to))
    if after.state is CallState.CLAIMED:
        after = replanned(replace(after, state=CallState.PENDING), queue, now)
    return change(task, after, step, now, f"lease {step}", task.leased_to)


def ripened(task: CallTask, queue: CallQueueBlock, now: datetime) -> Change:
    """The waiting is over: offered since the moment that the wait ended, not since somebody looked."""
    at = task.not_before or now
    after = placed(replace(task, state=CallState.PENDING, offered_at=at), queue)
    return change(task, after, Step.OFFERED, now, "waiting is over")


def replanned(task: CallTask, queue: CallQueueBlock, now: datetime) -> CallTask:
    """The task with state, priority, rank and routes as they follow from all else. A claimed one stays claimed."""
    task = placed(task, queue)
    if task.state is CallState.CLAIMED or task.state in FINAL_STATES:
        return task
    if not task.open_reasons:
        return replace(task, state=CallState.CANCELLED, state_reason=None)
    if task.state_reason not in {None, StateReason.NO_CONTACT}:
        return task
    if task.contact_count == 0:
        return replace(task, state=CallState.ESCALATED, state_reason=StateReason.NO_CONTACT)
    return placed(_timed(task, queue, now), queue)


def change(
    before: CallTask | None, after: CallTask, step: Step, at: datetime, why: str, by: ExpertId | None = None
) -> Change:
    """What is recorded of a transition: reasons that it made or touched, and the task that lists the rest."""
    known = set() if before is None else set(before.reasons)
    touched = tuple(r for r in after.reasons if r not in known)
    listed = tuple(sorted((r for r in after.reasons if r.listed), key=lambda r: r.place))
    return Change(replace(after, reasons=listed, changed_at=at), step, at, why, by, touched)


def in_context(task: CallTask, context: MachineContext) -> CallTask:
    return replace(
        task,
        expert_id=context.expert_id,
        team_id=context.team_id,
        customer_id=context.customer_id,
        contact_count=context.contact_count,
        contact_no=task.contact_no if task.contact_no < context.contact_count else 0,
    )


def outcome_rule(queue: CallQueueBlock, name: str | None) -> OutcomeRule | None:
    return next((rule for rule in queue.outcomes if rule.name == name), None)


def _is_urgent(task: CallTask, queue: CallQueueBlock) -> bool:
    return task.priority in queue.urgent_priorities


def _ended(reason: Reason, end: ReasonEnd, now: datetime) -> Reason:
    return replace(reason, ended=end, ended_at=now)


def _relisted(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Ended reasons leave the list while others are open; the last ones stay, as what the task was about."""
    if all(r.ended for r in reasons):
        return reasons
    return tuple(replace(r, listed=False) if r.ended else r for r in reasons)


def placed(task: CallTask, queue: CallQueueBlock) -> CallTask:
    """Priority by the reasons; rank and routes by the priority and `offered_at`."""
    priority = min((r.priority for r in task.open_reasons), default=task.priority)
    task = replace(task, priority=priority)
    if task.offered_at is None:
        return task
    team_after_s, anyone_after_s = _route_times_s(task, queue)
    team_at = task.offered_at + timedelta(seconds=0 if task.expert_id is None else team_after_s)
    return replace(
        task,
        rank_at=task.offered_at + timedelta(hours=queue.rank_offset_h[priority - 1]),
        route_team_at=team_at,
        route_anyone_at=team_at if task.team_id is None else task.offered_at + timedelta(seconds=anyone_after_s),
    )


def _route_times_s(task: CallTask, queue: CallQueueBlock) -> tuple[float, float]:
    if _is_urgent(task, queue):
        return queue.urgent_route_team_after_s, queue.urgent_route_anyone_after_s
    return queue.route_team_after_s, queue.route_anyone_after_s


def _timed(task: CallTask, queue: CallQueueBlock, now: datetime) -> CallTask:
    """Pending now, or waiting until the policy's or the agreed time."""
    not_before = task.callback_at or _retry_at(task, queue)
    task = replace(task, state_reason=None, not_before=not_before)
    if not_before is not None and not_before > now:
        waiting = CallState.WAITING_WINDOW if task.callback_at is None else CallState.CALLBACK_SCHEDULED
        return replace(task, state=waiting)
    if task.state is CallState.PENDING and task.offered_at is not None:
        return task
    return replace(task, state=CallState.PENDING, offered_at=now)


def _retry_at(task: CallTask, queue: CallQueueBlock) -> datetime | None:
    rule = outcome_rule(queue, task.last_outcome)
    if rule is None or task.last_outcome_at is None:
        return None
    after_s = rule.urgent_retry_after_s if _is_urgent(task, queue) else rule.retry_after_s
    return None if after_s is None else task.last_outcome_at + timedelta(seconds=after_s)
