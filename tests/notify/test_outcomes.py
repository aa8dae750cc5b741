"""What an outcome does to its task, with the policy's times on both sides."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from msgspec.structs import replace

from telemetry_svc.calls import (
    AlertId,
    CallState,
    CallTask,
    Change,
    ExpertId,
    ReasonEnd,
    StateReason,
    Step,
    rest_id_of,
)
from telemetry_svc.events import Severity
from telemetry_svc.notify.lifecycle import freed, moved_context, outcome_rule, ripened
from telemetry_svc.notify.outcomes import Report, settled
from tests.notify.alerts import CONTEXT, NO_CONTACT, QUEUE, MemoryQueue, fault, inspection, reason_id

EXPERT = ExpertId("EXP-9")


def claimed(task: CallTask) -> CallTask:
    """The task in a call: every reason was shown."""
    reasons = tuple(replace(r, shown=True) for r in task.reasons)
    return replace(task, state=CallState.CLAIMED, reasons=reasons, leased_to=EXPERT, lease_token=uuid4())


def in_a_call(*, urgent: bool = False, contact_count: int = 1) -> MemoryQueue:
    queue = MemoryQueue(context=replace(CONTEXT, contact_count=contact_count))
    queue.take(fault(Severity.MAJOR) if urgent else inspection(250, "due"))
    queue.task = claimed(queue.open_task)
    return queue


def say(
    queue: MemoryQueue,
    outcome: str,
    *,
    reasons_done: frozenset[AlertId] | None = None,
    callback_at: datetime | None = None,
) -> list[Change]:
    rule = outcome_rule(QUEUE, outcome)
    assert rule is not None
    changes = settled(queue.open_task, Report(rule, reasons_done, callback_at), QUEUE, queue.now)
    queue.apply(changes)
    return list(changes)


@pytest.mark.parametrize(
    "outcome", ["answered_booked", "answered_declined", "answered_info", "already_serviced", "do_not_call"]
)
def test_an_answer_completes_and_settles_what_was_shown(outcome: str) -> None:
    queue = in_a_call()
    token = queue.open_task.lease_token
    [change] = say(queue, outcome)
    task = change.task
    assert (change.step, change.by, task.state, task.assigned_to) == (Step.OUTCOME, EXPERT, CallState.COMPLETED, EXPERT)
    assert token is not None
    assert task.lease_token is None
    assert [(r.alert_id, r.ended) for r in task.reasons] == [(reason_id(inspection(250, "due")), ReasonEnd.SETTLED)]
    assert queue.task is None


@pytest.mark.parametrize(
    ("outcome", "urgent", "wait"),
    [
        pytest.param("no_answer", False, timedelta(hours=3), id="no-answer"),
        pytest.param("busy", False, timedelta(minutes=15), id="busy"),
        pytest.param("switched_off", False, timedelta(hours=4), id="switched-off"),
        pytest.param("callback_later", False, timedelta(hours=24), id="callback-later-without-a-time"),
        pytest.param("no_answer", True, timedelta(minutes=5), id="no-answer-urgent"),
        pytest.param("busy", True, timedelta(minutes=5), id="busy-urgent"),
        pytest.param("switched_off", True, timedelta(minutes=15), id="switched-off-urgent"),
        pytest.param("callback_later", True, timedelta(minutes=30), id="callback-later-urgent"),
    ],
)
def test_nobody_reached_waits_as_long_as_the_policy_says(outcome: str, urgent: bool, wait: timedelta) -> None:
    queue = in_a_call(urgent=urgent)
    called_at = queue.now
    [change] = say(queue, outcome)
    task = change.task
    assert (task.state, task.state_reason) == (CallState.WAITING_WINDOW, None)
    assert (task.not_before, task.attempts) == (called_at + wait, 1)
    assert (task.lease_token, task.assigned_to) == (None, "EXP-1")
    assert all(r.ended is None for r in task.reasons)

    offered = ripened(task, QUEUE, called_at + wait + timedelta(seconds=3)).task
    assert (offered.state, offered.offered_at) == (CallState.PENDING, called_at + wait)


def test_an_agreed_time_is_kept_as_agreed() -> None:
    queue = in_a_call()
    agreed = queue.now + timedelta(hours=8, minutes=7)
    [change] = say(queue, "callback_later", callback_at=agreed)
    assert (change.task.state, change.task.not_before) == (CallState.CALLBACK_SCHEDULED, agreed)
    queue.take(inspection(500, "due"))
    assert (queue.open_task.state, queue.open_task.not_before) == (CallState.CALLBACK_SCHEDULED, agreed)


def test_a_fault_does_not_wait_for_what_was_agreed_about_maintenance() -> None:
    queue = in_a_call()
    called_at = queue.now
    say(queue, "callback_later", callback_at=queue.now + timedelta(hours=8))
    queue.now = called_at + timedelta(minutes=29, seconds=59)
    queue.take(fault(Severity.CRITICAL))
    task = queue.open_task
    assert (task.state, task.not_before) == (CallState.WAITING_WINDOW, called_at + timedelta(minutes=30))
    assert task.priority == 1


def test_a_fault_that_joins_shortens_the_wait() -> None:
    queue = in_a_call()
    called_at = queue.now
    say(queue, "no_answer")
    queue.now = called_at + timedelta(minutes=5)
    queue.take(fault(Severity.MAJOR))
    assert (queue.open_task.state, queue.open_task.offered_at) == (CallState.PENDING, queue.now - timedelta(seconds=1))
    queue.take(fault(Severity.MAJOR, "cleared"))
    task = queue.open_task
    assert (task.state, task.not_before) == (CallState.WAITING_WINDOW, called_at + timedelta(hours=3))


def test_the_sixth_attempt_is_the_last() -> None:
    queue = in_a_call()
    for attempt in range(1, 7):
        [change] = say(queue, "busy")
        assert change.task.attempts == attempt
        last = attempt == 6
        assert change.task.state is (CallState.ESCALATED if last else CallState.WAITING_WINDOW)
        assert change.task.state_reason is (StateReason.ATTEMPTS_EXHAUSTED if last else None)
        if not last:
            queue.task = claimed(ripened(change.task, QUEUE, queue.now + timedelta(hours=1)).task)
    queue.take(fault(Severity.MAJOR))
    assert queue.open_task.state_reason is StateReason.ATTEMPTS_EXHAUSTED


def test_a_wrong_number_goes_to_the_next_one_and_then_to_a_supervisor() -> None:
    queue = in_a_call(contact_count=2)
    [change] = say(queue, "wrong_number")
    assert (change.task.state, change.task.contact_no, change.task.not_before) == (CallState.PENDING, 1, None)
    queue.task = claimed(change.task)
    [change] = say(queue, "wrong_number")
    assert (change.task.state, change.task.state_reason) == (CallState.ESCALATED, StateReason.WRONG_NUMBER)


def test_what_is_not_done_goes_on_in_a_task_of_its_own() -> None:
    queue = MemoryQueue()
    queue.take(inspection(50, "overdue"), inspection(250, "due"))
    queue.task = claimed(queue.open_task)
    queue.take(fault(Severity.MAJOR))  # joins during the call: not shown
    old = queue.open_task
    done = frozenset({reason_id(inspection(50, "overdue"))})
    finished, rest = say(queue, "answered_booked", reasons_done=done)
    assert [(r.summary, r.ended) for r in finished.task.reasons] == [
        ("Inspection at 50 h is overdue", ReasonEnd.SETTLED),
        ("Inspection at 250 h is due", ReasonEnd.CARRIED),
        ("Fault SPN 110 FMI 0 engine coolant temperature: major", ReasonEnd.CARRIED),
    ]
    assert (rest.step, rest.task.task_id) == (Step.CARRIED_ON, rest_id_of(old.task_id))
    assert (rest.task.state, rest.task.priority, rest.task.attempts) == (CallState.PENDING, 2, 0)
    assert [(r.alert_id, r.place, r.shown) for r in rest.task.reasons] == [
        (reason_id(inspection(250, "due")), 0, False),
        (reason_id(fault(Severity.MAJOR)), 1, False),
    ]


def test_by_default_what_joined_during_the_call_is_what_is_left() -> None:
    queue = in_a_call()
    queue.take(inspection(500, "due"))
    _, rest = say(queue, "answered_info")
    assert [r.alert_id for r in rest.task.reasons] == [reason_id(inspection(500, "due"))]


def test_only_an_outcome_that_completes_settles_reasons() -> None:
    queue = in_a_call()
    done = frozenset({reason_id(inspection(250, "due"))})
    [change] = say(queue, "no_answer", reasons_done=done)
    assert [r.ended for r in change.task.reasons] == [None]


@pytest.mark.parametrize(
    ("step", "token_kept", "rejected_by"),
    [
        pytest.param(Step.RELEASED, False, (), id="released"),
        pytest.param(Step.REJECTED, False, (EXPERT,), id="rejected"),
        pytest.param(Step.LAPSED, True, (), id="lapsed"),
    ],
)
def test_a_lease_without_an_outcome_is_no_attempt(step: Step, token_kept: bool, rejected_by: tuple[str, ...]) -> None:
    queue = in_a_call()
    before = queue.open_task
    task = freed(before, step, QUEUE, queue.now).task
    assert (task.state, task.attempts, task.offered_at) == (CallState.PENDING, 0, before.offered_at)
    assert (task.lease_token == before.lease_token, task.rejected_by) == (token_kept, rejected_by)
    assert task.rank_at == before.rank_at


@pytest.mark.parametrize("step", [Step.RELEASED, Step.REJECTED, Step.LAPSED])
def test_a_flagged_task_is_cancelled_when_it_is_no_longer_claimed(step: Step) -> None:
    queue = in_a_call()
    queue.take(inspection(250, "completed"))
    assert freed(queue.open_task, step, QUEUE, queue.now).task.state is CallState.CANCELLED


def test_the_call_that_was_made_counts_although_its_cause_went_away() -> None:
    queue = in_a_call()
    queue.take(inspection(250, "completed"))
    lapsed = freed(queue.open_task, Step.LAPSED, QUEUE, queue.now).task
    queue.task = lapsed
    [change] = say(queue, "answered_info")
    assert (lapsed.state, change.task.state) == (CallState.CANCELLED, CallState.COMPLETED)


def test_a_late_no_answer_leaves_a_cancelled_task_cancelled() -> None:
    queue = in_a_call()
    queue.take(inspection(250, "completed"))
    queue.task = freed(queue.open_task, Step.LAPSED, QUEUE, queue.now).task
    [change] = say(queue, "no_answer")
    assert (change.task.state, change.task.attempts) == (CallState.CANCELLED, 1)


def test_the_last_number_gone_stops_a_task_and_a_new_one_starts_it_anew() -> None:
    queue = MemoryQueue()
    queue.take(inspection(250, "due"))
    gone = moved_context(queue.open_task, NO_CONTACT, QUEUE, queue.now)
    assert gone is not None
    assert (gone.task.state, gone.task.state_reason) == (CallState.ESCALATED, StateReason.NO_CONTACT)
    later = queue.now + timedelta(days=3)
    back = moved_context(gone.task, CONTEXT, QUEUE, later)
    assert back is not None
    assert (back.task.state, back.task.state_reason, back.task.offered_at) == (CallState.PENDING, None, later)
    assert moved_context(back.task, CONTEXT, QUEUE, later) is None
