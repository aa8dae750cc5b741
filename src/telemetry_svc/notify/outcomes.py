"""What became of a call: the outcome an expert reports, turned into the changes of its task. Pure.

Outcomes are policy data. One that completes settles what was talked about and hands the rest to a task of its own; any
other waits as the policy says, goes to the next number, or ends with a supervisor.
"""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.calls import (
    AlertId,
    CallState,
    CallTask,
    Change,
    Reason,
    ReasonEnd,
    StateReason,
    Step,
    rest_id_of,
)
from telemetry_svc.notify.lifecycle import change, replanned
from telemetry_svc.rules.service_terms import CallQueueBlock, OutcomeRule


class Report(Struct, frozen=True):
    """An expert's word on a call. `reasons_done` None: all that the claim's answer showed. `callback_at`: agreed."""

    rule: OutcomeRule
    reasons_done: frozenset[AlertId] | None = None
    callback_at: datetime | None = None


def settled(task: CallTask, report: Report, queue: CallQueueBlock, now: datetime) -> tuple[Change, ...]:
    """The changes that an outcome makes: the task's own and, where something is left, the opening of the rest's task.

    The task may have lapsed, or lost its cause and been cancelled meanwhile: the call was made all the same.
    """
    tried = replace(
        task,
        attempts=task.attempts + report.rule.counts_attempt,
        last_outcome=report.rule.name,
        last_outcome_at=now,
        callback_at=report.callback_at,
        lease_token=None,
        lease_expires_at=None,
    )
    if report.rule.completes:
        return _completed(task, tried, report, queue, now)
    again = replanned(_to_try_again(tried, report.rule, queue), queue, now)
    return (change(task, again, Step.OUTCOME, now, report.rule.name, task.leased_to),)


def _completed(
    task: CallTask, tried: CallTask, report: Report, queue: CallQueueBlock, now: datetime
) -> tuple[Change, ...]:
    done = report.reasons_done
    if done is None:
        done = frozenset(r.alert_id for r in task.open_reasons if r.shown)
    left = tuple(r for r in task.open_reasons if r.alert_id not in done)
    finished = replace(
        tried,
        state=CallState.COMPLETED,
        state_reason=None,
        reasons=tuple(_closed(r, done, now) for r in task.reasons),
    )
    ending = change(task, finished, Step.OUTCOME, now, report.rule.name, task.leased_to)
    return (ending, _carried_on(task, left, queue, now)) if left else (ending,)


def _closed(reason: Reason, done: frozenset[AlertId], now: datetime) -> Reason:
    if reason.ended is not None:
        return reason
    end = ReasonEnd.SETTLED if reason.alert_id in done else ReasonEnd.CARRIED
    return replace(reason, ended=end, ended_at=now)


def _carried_on(task: CallTask, left: tuple[Reason, ...], queue: CallQueueBlock, now: datetime) -> Change:
    rest = CallTask(
        task_id=rest_id_of(task.task_id),
        machine_id=task.machine_id,
        edition=task.edition,
        state=CallState.PENDING,
        priority=task.priority,
        created_at=now,
        changed_at=now,
        reasons=tuple(replace(r, place=place, shown=False) for place, r in enumerate(left)),
        customer_id=task.customer_id,
        expert_id=task.expert_id,
        team_id=task.team_id,
        contact_count=task.contact_count,
        contact_no=task.contact_no,
    )
    return change(None, replanned(rest, queue, now), Step.CARRIED_ON, now, f"rest of {task.task_id}")


def _to_try_again(task: CallTask, rule: OutcomeRule, queue: CallQueueBlock) -> CallTask:
    if task.is_final:
        return task
    task = replace(task, state=CallState.PENDING, state_reason=None, leased_to=None)
    if rule.next_contact:
        task = replace(task, contact_no=task.contact_no + 1)
    if task.contact_no >= task.contact_count > 0:
        return replace(task, state=CallState.ESCALATED, state_reason=StateReason.WRONG_NUMBER)
    if task.attempts >= queue.attempts_per_task:
        return replace(task, state=CallState.ESCALATED, state_reason=StateReason.ATTEMPTS_EXHAUSTED)
    return task
