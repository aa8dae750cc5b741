"""What holds for any sequence of alerts of a machine, with calls made in between."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_svc.calls import CallState, CallTask, ExpertId, ReasonEnd, Step
from telemetry_svc.events import Alert, Severity
from telemetry_svc.notify.lifecycle import freed, outcome_rule, ripened
from telemetry_svc.notify.outcomes import Report, settled
from tests.notify.alerts import QUEUE, MemoryQueue, checkup, fault, inspection, warranty

ALERTS: list[Alert] = [
    *(inspection(m, stage) for m in (50, 250) for stage in ("upcoming", "due", "overdue", "completed", "superseded")),
    *(warranty("machine", stage) for stage in ("expiring", "expired")),
    *(checkup(1, stage) for stage in ("due", "completed")),
    *(fault(severity, phase) for severity in Severity for phase in ("opened", "worsened", "cleared")),
]

moves = st.lists(
    st.one_of(
        st.sampled_from(ALERTS), st.sampled_from(["claim", "answered_info", "no_answer", "busy", "lapse", "ripen"])
    ),
    max_size=40,
)


def play(queue: MemoryQueue, move: Alert | str) -> None:
    """One alert, or one thing that an expert or the clock does, where it is possible."""
    queue.now += timedelta(minutes=1)
    if isinstance(move, Alert):
        queue.take(move)
    elif queue.task is not None:
        _act(queue, queue.task, move)


def _act(queue: MemoryQueue, task: CallTask, move: str) -> None:
    rule = outcome_rule(QUEUE, move)
    if move == "claim" and task.state is CallState.PENDING:
        reasons = tuple(replace(r, shown=True) for r in task.reasons)
        queue.task = replace(
            task, state=CallState.CLAIMED, reasons=reasons, leased_to=ExpertId("EXP-9"), lease_token=uuid4()
        )
    elif rule is not None and task.lease_token is not None:
        queue.apply(settled(task, Report(rule), QUEUE, queue.now))
    elif move == "lapse" and task.state is CallState.CLAIMED:
        queue.apply([freed(task, Step.LAPSED, QUEUE, queue.now)])
    elif move == "ripen" and task.state is CallState.WAITING_WINDOW:
        queue.apply([ripened(task, QUEUE, queue.now)])


def played(sequence: Sequence[Alert | str]) -> MemoryQueue:
    queue = MemoryQueue()
    for move in sequence:
        play(queue, move)
    return queue


@given(moves)
def test_an_open_task_is_the_sum_of_its_reasons(sequence: Sequence[Alert | str]) -> None:
    queue = MemoryQueue()
    for move in sequence:
        play(queue, move)
        task = queue.task
        if task is None:
            continue
        subjects = [r.subject for r in task.open_reasons]
        assert len(subjects) == len(set(subjects))
        assert task.flagged or task.priority == min(r.priority for r in task.open_reasons)
        assert [r.place for r in task.reasons] == sorted(r.place for r in task.reasons)
        assert task.state is CallState.CLAIMED or subjects
        if task.state is CallState.PENDING:
            assert task.offered_at is not None
            assert task.rank_at == task.offered_at + timedelta(hours=QUEUE.rank_offset_h[task.priority - 1])


@given(moves)
def test_an_alert_is_a_reason_once_in_its_life(sequence: Sequence[Alert | str]) -> None:
    queue = played(sequence)
    joined = [
        r.alert_id
        for change in queue.changes
        if change.step in {Step.OPENED, Step.JOINED, Step.REPLACED}
        for r in change.touched
        if r.ended is None
    ]
    assert len(joined) == len(set(joined))
    ended = {
        (r.alert_id, r.ended, r.ended_at)
        for change in queue.changes
        for r in change.touched
        if r.ended not in {None, ReasonEnd.CARRIED}
    }
    assert len(ended) == len({alert_id for alert_id, _, _ in ended})


@given(moves)
def test_a_replay_changes_nothing(sequence: Sequence[Alert | str]) -> None:
    queue = played(sequence)
    before = queue.task
    assert queue.take(*(move for move in sequence if isinstance(move, Alert))) == ()
    assert queue.task is before


@given(moves)
def test_repeats_on_the_wire_change_nothing(sequence: Sequence[Alert | str]) -> None:
    once = played(sequence)
    queue = MemoryQueue()
    for move in sequence:
        play(queue, move)
        if isinstance(move, Alert):
            now = queue.now
            assert queue.take(move) == ()
            queue.now = now
    assert [change.step for change in queue.changes] == [change.step for change in once.changes]
