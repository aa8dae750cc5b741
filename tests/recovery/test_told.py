"""From what was told of a machine's tasks to the changes that bring them back: pure, by scenario."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from telemetry_svc.calls import AlertId, CallState, CallTask, Change, ReasonEnd, Step, TaskId, rest_id_of, task_id_of
from telemetry_svc.events import Severity
from telemetry_svc.notify.announce import message_of
from telemetry_svc.notify.matters import Matter, matter_of
from telemetry_svc.notify.recovery import Memory, Told, recover, told_by
from tests.notify.alerts import CONTEXT, MACHINE, NOON, QUEUE, MemoryQueue, fault, inspection, reason_id

DUE = inspection(250, "due")
FAULT = fault(Severity.MAJOR)
LATER = NOON + timedelta(hours=2)
READ = {AlertId(alert.id): matter_of(alert, QUEUE.priorities, NOON) for alert in (DUE, FAULT)}
MATTERS = {alert_id: matter for alert_id, matter in READ.items() if isinstance(matter, Matter)}


def memory(*tasks: CallTask, forgotten: bool = False) -> Memory:
    """What a database knows that has these tasks; `forgotten`: it has not read the alerts either, nor can it."""
    reasons = {reason.alert_id: reason for task in tasks for reason in task.reasons}
    return Memory({task.task_id: task for task in tasks}, reasons, {} if forgotten else MATTERS, CONTEXT)


def told(changes: list[Change], **fields: Any) -> list[Told]:
    """The same through the topic."""
    found = [told_by(message_of(change).value) for change in changes]
    assert None not in found
    return [msgspec.structs.replace(one, **fields) for one in found if one is not None]


def lived() -> MemoryQueue:
    """A task with two reasons."""
    queue = MemoryQueue()
    queue.take(DUE, FAULT)
    return queue


def ended(one: Told, state: CallState, **fields: Any) -> Told:
    return msgspec.structs.replace(one, state=state, changed_at=NOON + timedelta(hours=1), **fields)


def test_what_is_told_of_a_change_is_what_was_announced() -> None:
    [first, second] = told(lived().changes)
    assert (first.task_id, first.machine_id, first.state) == (task_id_of(reason_id(DUE)), MACHINE, CallState.PENDING)
    assert [one.alert_id for one in second.reasons] == [reason_id(DUE), reason_id(FAULT)]


@pytest.mark.parametrize("value", [None, b"", b"[]", b"\xff", b'{"type": "excavator.anomaly.v1", "data": {}}'])
def test_what_tells_of_no_task_is_passed_over(value: bytes | None) -> None:
    assert told_by(value) is None


def test_a_task_that_was_settled_is_not_called_about_again() -> None:
    queue = lived()
    history = told(queue.changes)
    history.append(ended(history[-1], CallState.COMPLETED, assigned_to="EXP-9", attempts=1))
    [change] = recover(MACHINE, history, memory(queue.open_task), QUEUE, LATER).changes
    task = change.task
    assert (task.state, task.attempts, task.assigned_to) == (CallState.COMPLETED, 1, "EXP-9")
    assert change.step is Step.RECOVERED
    assert {reason.ended for reason in task.reasons} == {ReasonEnd.SETTLED}
    assert (task.lease_token, task.lease_expires_at) == (None, None)


def test_a_task_that_the_database_never_saw_comes_with_subjects_by_which_its_alerts_are_old_news() -> None:
    history = told(lived().changes)
    [change] = recover(MACHINE, history, memory(), QUEUE, LATER).changes
    assert [reason.subject for reason in change.touched] == ["inspection|250", MATTERS[reason_id(FAULT)].subject]
    assert change.task.state is CallState.PENDING
    assert change.task.rank_at is not None
    assert change.task.priority == min(reason.priority for reason in change.touched)


def test_a_reason_of_which_nothing_is_known_any_more_is_kept_as_it_was_told() -> None:
    history = told(lived().changes)
    [change] = recover(MACHINE, history, memory(forgotten=True), QUEUE, LATER).changes
    assert [reason.summary for reason in change.task.reasons] == [one.summary for one in history[-1].reasons]
    assert change.task.reasons[0].subject == f"told|{reason_id(DUE)}"


def test_a_claimed_call_stays_with_its_expert_and_nobody_has_its_token() -> None:
    history = told(lived().changes)
    history.append(ended(history[-1], CallState.CLAIMED, assigned_to="EXP-9"))
    [change] = recover(MACHINE, history, memory(), QUEUE, LATER).changes
    task = change.task
    assert (task.state, task.leased_to) == (CallState.CLAIMED, "EXP-9")
    assert isinstance(task.lease_token, UUID)
    assert task.lease_expires_at == LATER + timedelta(seconds=QUEUE.lease_max_s)


def test_what_was_left_over_goes_on_in_its_own_task() -> None:
    """The call settled the inspection; the fault went on in the rest's task."""
    history = told(lived().changes)
    first = history[-1]
    history.append(ended(first, CallState.COMPLETED))
    rest = ended(first, CallState.WAITING_WINDOW, reasons=first.reasons[1:], not_before=LATER + timedelta(hours=4))
    history.append(msgspec.structs.replace(rest, task_id=rest_id_of(TaskId(first.task_id))))
    done, open_ = recover(MACHINE, history, memory(), QUEUE, LATER).changes
    assert [reason.ended for reason in done.task.reasons] == [ReasonEnd.SETTLED, ReasonEnd.CARRIED]
    assert (open_.task.state, open_.task.not_before) == (CallState.WAITING_WINDOW, LATER + timedelta(hours=4))
    assert [reason.ended for reason in open_.task.reasons] == [None]


@pytest.mark.parametrize("later", [CallState.CLAIMED, CallState.CANCELLED])
def test_a_call_that_was_made_counts_though_its_task_went_on_after_a_restore_that_nobody_saw(later: CallState) -> None:
    """Completed, set back, offered and claimed again, a further reason: recovered, it is told for the second time."""
    queue = MemoryQueue()
    queue.take(DUE)
    first = told(queue.changes)[-1]
    done = msgspec.structs.replace(first, state=CallState.COMPLETED, changed_at=NOON + timedelta(seconds=1))
    queue.now = NOON + timedelta(hours=1)
    queue.take(FAULT)
    again = ended(told(queue.changes)[-1], later, assigned_to="EXP-9")
    ending, opening = recover(MACHINE, [first, done, again], memory(queue.open_task), QUEUE, LATER).changes
    assert (ending.task.task_id, ending.task.state) == (first.task_id, CallState.COMPLETED)
    assert {r.alert_id: (r.ended, r.listed) for r in ending.touched} == {
        reason_id(DUE): (ReasonEnd.SETTLED, True),
        reason_id(FAULT): (ReasonEnd.CARRIED, False),
    }
    assert (opening.task.task_id, opening.task.state) == (task_id_of(reason_id(FAULT)), CallState.PENDING)
    assert [(r.alert_id, r.ended) for r in opening.task.reasons] == [(reason_id(FAULT), None)]
    after = memory(ending.task, opening.task)
    assert recover(MACHINE, [first, done, again], after, QUEUE, LATER).changes == (), "a repeat changes nothing"


def test_what_joined_since_goes_on_in_the_rest_of_its_task() -> None:
    queue = lived()
    first = told(queue.changes)[-1]
    rest_id = rest_id_of(TaskId(first.task_id))
    done = msgspec.structs.replace(first, state=CallState.COMPLETED, changed_at=NOON + timedelta(seconds=2))
    rest = msgspec.structs.replace(done, task_id=rest_id, state=CallState.PENDING, reasons=first.reasons[1:])
    queue.now = NOON + timedelta(hours=1)
    queue.take(fault(Severity.MAJOR, spn=111))
    [ending, carried, joining] = recover(MACHINE, [first, done, rest], memory(queue.open_task), QUEUE, LATER).changes
    assert (ending.task.state, carried.task.task_id, joining.task.task_id) == (CallState.COMPLETED, rest_id, rest_id)
    assert [r.alert_id for r in joining.task.reasons] == [reason_id(FAULT), reason_id(fault(Severity.MAJOR, spn=111))]


def test_what_the_database_knows_better_stays() -> None:
    """It was settled after the restore; what was told before is older."""
    queue = lived()
    history = told(queue.changes)
    settled = msgspec.structs.replace(queue.open_task, state=CallState.COMPLETED, changed_at=LATER)
    assert recover(MACHINE, history, memory(settled), QUEUE, LATER).changes == ()
    newer = msgspec.structs.replace(queue.open_task, changed_at=LATER)
    assert recover(MACHINE, history, memory(newer), QUEUE, LATER).changes == ()


def test_a_task_made_meanwhile_of_reasons_that_were_settled_ends() -> None:
    """Alerts of two topics were read again in another order: the same reasons opened a task of another name."""
    history = told(lived().changes)
    history.append(ended(history[-1], CallState.COMPLETED))
    other = MemoryQueue()
    other.take(FAULT, DUE)
    changes = recover(MACHINE, history, memory(other.open_task), QUEUE, LATER).changes
    assert [(change.task.task_id, change.task.state) for change in changes] == [
        (task_id_of(reason_id(FAULT)), CallState.CANCELLED),
        (task_id_of(reason_id(DUE)), CallState.COMPLETED),
    ]


def test_two_open_tasks_of_a_machine_are_never_made() -> None:
    history = told(lived().changes)
    other = MemoryQueue()
    other.take(FAULT)
    recovered = recover(MACHINE, history, memory(other.open_task), QUEUE, LATER)
    assert (recovered.changes, recovered.left_out) == ((), (task_id_of(reason_id(DUE)),))
