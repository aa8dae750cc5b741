"""What is called about, in which place, and what old news does: nothing."""

from datetime import timedelta
from uuid import UUID, uuid5

import pytest
from msgspec.structs import replace

from telemetry_svc.calls import (
    CallState,
    ExpertId,
    MachineContext,
    ReasonEnd,
    StateReason,
    Step,
    rest_id_of,
    task_id_of,
)
from telemetry_svc.events import NAMESPACE, Alert, Severity
from telemetry_svc.notify.matters import NotUnderstood, matter_of
from tests.notify.alerts import (
    CONTEXT,
    MACHINE,
    NO_CONTACT,
    NOON,
    QUEUE,
    MemoryQueue,
    anomaly,
    checkup,
    fault,
    inspection,
    reason_id,
    warranty,
)

CALLED = [
    pytest.param(inspection(250, "upcoming"), 8, id="upcoming"),
    pytest.param(inspection(250, "due"), 6, id="due"),
    pytest.param(inspection(250, "overdue"), 5, id="overdue"),
    pytest.param(warranty("machine", "expiring"), 7, id="machine-expiring"),
    pytest.param(warranty("structure", "expired"), 7, id="structure-expired"),
    pytest.param(checkup(1, "due"), 6, id="checkup"),
    pytest.param(fault(Severity.CRITICAL), 1, id="critical-fault"),
    pytest.param(fault(Severity.MAJOR), 2, id="major-fault"),
    pytest.param(fault(Severity.GENERAL), 3, id="general-fault"),
    pytest.param(fault(Severity.CRITICAL, "worsened"), 1, id="worsened-to-critical"),
    pytest.param(anomaly("sensor", "coolant_temperature_c", "opened", Severity.CRITICAL), 1, id="coolant"),
    pytest.param(anomaly("sensor", "oil_pressure_kpa", "opened", Severity.CRITICAL), 1, id="oil"),
    pytest.param(anomaly("position", "outside_hours", "opened", Severity.MAJOR), 4, id="outside-hours"),
]

OPS_ONLY = [
    pytest.param(fault(Severity.WARNING), id="warning-fault"),
    pytest.param(fault(Severity.WARNING, "cleared"), id="warning-fault-cleared"),
    pytest.param(anomaly("silence", "silence", "opened", Severity.WARNING), id="silence"),
    pytest.param(anomaly("hour_meter", "hour_meter", "opened", Severity.WARNING), id="hour-meter"),
    pytest.param(anomaly("storm", "storm", "opened", Severity.WARNING), id="storm"),
    pytest.param(anomaly("position", "speed", "opened", Severity.WARNING), id="speed"),
    pytest.param(anomaly("position", "geofence", "opened", Severity.GENERAL), id="geofence"),
    pytest.param(anomaly("position", "engine_off_movement", "opened", Severity.GENERAL), id="engine-off-movement"),
    pytest.param(anomaly("sensor", "battery_v", "opened", Severity.WARNING), id="battery"),
    pytest.param(anomaly("sensor", "fuel_level_pct", "opened", Severity.WARNING), id="fuel"),
    pytest.param(inspection(250, "completed"), id="completed-without-a-reason"),
    pytest.param(fault(Severity.CRITICAL, "cleared"), id="cleared-without-a-reason"),
]


@pytest.mark.parametrize(("alert", "priority"), CALLED)
def test_called_about(alert: Alert, priority: int) -> None:
    [change] = MemoryQueue().take(alert)
    task = change.task
    assert (change.step, task.state, task.priority, task.attempts) == (Step.OPENED, CallState.PENDING, priority, 0)
    assert [(r.alert_id, r.type, r.priority, r.place) for r in task.reasons] == [
        (reason_id(alert), alert.type, priority, 0)
    ]
    assert task.task_id == task_id_of(task.reasons[0].alert_id)
    assert (task.customer_id, task.assigned_to, task.offered_at, task.not_before) == ("CUST-1", "EXP-1", NOON, None)


@pytest.mark.parametrize("alert", OPS_ONLY)
def test_for_ops_alone(alert: Alert) -> None:
    queue = MemoryQueue()
    assert queue.take(alert) == ()
    assert queue.task is None


def test_ids_are_those_of_the_contract() -> None:
    opening = inspection(250, "due")
    assert str(opening.id) == "e59ca73e-d80d-5236-a163-2bc15288643e"
    [change] = MemoryQueue().take(opening)
    assert change.task.task_id == UUID("a4b7fbe1-37ea-5ccf-9f04-25fac2a3c6f3")
    assert rest_id_of(change.task.task_id) == uuid5(NAMESPACE, "a4b7fbe1-37ea-5ccf-9f04-25fac2a3c6f3|rest")


@pytest.mark.parametrize(
    ("earlier", "later", "priority"),
    [
        pytest.param(inspection(250, "upcoming"), inspection(250, "due"), 6, id="due-of-upcoming"),
        pytest.param(inspection(250, "due"), inspection(250, "overdue"), 5, id="overdue-of-due"),
        pytest.param(warranty("machine", "expiring"), warranty("machine", "expired"), 7, id="expired-of-expiring"),
        pytest.param(fault(Severity.GENERAL), fault(Severity.CRITICAL, "worsened"), 1, id="worsened-of-opened"),
        pytest.param(
            fault(Severity.MAJOR, "worsened"), fault(Severity.CRITICAL, "worsened"), 1, id="critical-of-major"
        ),
    ],
)
def test_a_later_stage_takes_the_place_of_the_earlier(earlier: Alert, later: Alert, priority: int) -> None:
    queue = MemoryQueue()
    queue.take(inspection(50, "due"), earlier, inspection(500, "due"))
    opened_as = queue.open_task.task_id
    [change] = queue.take(later)
    assert change.step is Step.REPLACED
    assert [r.alert_id for r in change.task.reasons] == [
        reason_id(inspection(50, "due")),
        reason_id(later),
        reason_id(inspection(500, "due")),
    ]
    assert [(r.alert_id, r.ended) for r in change.touched] == [
        (reason_id(earlier), ReasonEnd.REPLACED),
        (reason_id(later), None),
    ]
    assert (change.task.task_id, change.task.priority) == (opened_as, min(priority, 6))


@pytest.mark.parametrize(
    "sequence",
    [
        pytest.param([inspection(250, "due"), inspection(250, "due")], id="repeated"),
        pytest.param([inspection(250, "overdue"), inspection(250, "due")], id="due-after-overdue"),
        pytest.param([inspection(250, "completed"), inspection(250, "due")], id="due-after-completed"),
        pytest.param([inspection(250, "superseded"), inspection(250, "overdue")], id="overdue-after-superseded"),
        pytest.param([inspection(250, "due"), inspection(250, "completed"), inspection(250, "due")], id="due-again"),
        pytest.param([warranty("machine", "expired"), warranty("machine", "expiring")], id="expiring-after-expired"),
        pytest.param([fault(Severity.MAJOR, "cleared"), fault(Severity.MAJOR)], id="opened-after-cleared"),
        pytest.param([fault(Severity.CRITICAL, "worsened"), fault(Severity.GENERAL)], id="opened-after-worsened"),
        pytest.param([checkup(1, "completed"), checkup(1, "due")], id="checkup-after-completed"),
    ],
)
def test_old_news_changes_nothing(sequence: list[Alert]) -> None:
    queue = MemoryQueue()
    queue.take(*sequence[:-1])
    before = queue.task
    assert queue.take(sequence[-1]) == ()
    assert queue.task is before


@pytest.mark.parametrize(
    ("opening", "ending", "end"),
    [
        pytest.param(inspection(250, "due"), inspection(250, "completed"), ReasonEnd.COMPLETED, id="completed"),
        pytest.param(inspection(250, "overdue"), inspection(250, "superseded"), ReasonEnd.SUPERSEDED, id="superseded"),
        pytest.param(checkup(1, "due"), checkup(1, "superseded"), ReasonEnd.SUPERSEDED, id="checkup-superseded"),
        pytest.param(fault(Severity.MAJOR), fault(Severity.MAJOR, "cleared"), ReasonEnd.CLEARED, id="fault-cleared"),
        pytest.param(
            anomaly("position", "outside_hours", "opened", Severity.MAJOR),
            anomaly("position", "outside_hours", "cleared", Severity.MAJOR),
            ReasonEnd.CLEARED,
            id="outside-hours-cleared",
        ),
    ],
)
def test_the_cause_goes_away(opening: Alert, ending: Alert, end: ReasonEnd) -> None:
    alone = MemoryQueue()
    alone.take(opening)
    [change] = alone.take(ending)
    assert (change.step, change.task.state, alone.task) == (Step.CANCELLED, CallState.CANCELLED, None)
    assert [(r.alert_id, r.ended) for r in change.task.reasons] == [(reason_id(opening), end)]

    among_others = MemoryQueue()
    among_others.take(inspection(50, "upcoming"), opening)
    [change] = among_others.take(ending)
    assert (change.step, change.task.state, change.task.priority) == (Step.ENDED, CallState.PENDING, 8)
    assert [r.alert_id for r in change.task.reasons] == [reason_id(inspection(50, "upcoming"))]
    assert [(r.alert_id, r.ended) for r in change.touched] == [(reason_id(opening), end)]


def test_in_a_call_the_lost_cause_is_flagged_and_a_new_reason_joins() -> None:
    queue = MemoryQueue()
    queue.take(inspection(250, "due"))
    queue.task = replace(queue.open_task, state=CallState.CLAIMED, leased_to=ExpertId("EXP-9"))
    [flagged] = queue.take(inspection(250, "completed"))
    assert (flagged.step, flagged.task.state, flagged.task.flagged) == (Step.FLAGGED, CallState.CLAIMED, True)
    assert [r.alert_id for r in flagged.task.reasons] == [reason_id(inspection(250, "due"))]
    [joined] = queue.take(inspection(500, "due"))
    assert (joined.task.state, joined.task.flagged) == (CallState.CLAIMED, False)
    assert [r.alert_id for r in joined.task.reasons] == [reason_id(inspection(500, "due"))]


def test_without_a_number_it_waits_for_one() -> None:
    queue = MemoryQueue(context=NO_CONTACT)
    queue.take(inspection(250, "due"))
    task = queue.open_task
    assert (task.state, task.state_reason, task.offered_at) == (CallState.ESCALATED, StateReason.NO_CONTACT, None)
    queue.context = replace(NO_CONTACT, contact_count=1)
    joined_at = queue.now
    [change] = queue.take(inspection(500, "due"))
    assert (change.task.state, change.task.state_reason) == (CallState.PENDING, None)
    assert change.task.offered_at == joined_at


def test_a_retired_machine_is_not_called_about() -> None:
    queue = MemoryQueue(context=replace(CONTEXT, retired=True))
    assert queue.take(inspection(250, "due")) == ()


MILESTONES = (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000)


def test_the_machine_of_the_readings_at_7915_hours() -> None:
    queue = MemoryQueue(context=NO_CONTACT)
    for milestone_h in MILESTONES:
        queue.take(inspection(milestone_h, "due"), inspection(milestone_h, "overdue"))
    queue.take(warranty("machine", "expired"), warranty("structure", "expired"))
    reasons = queue.open_task.reasons
    assert len(reasons) == 12
    assert [r.milestone_h for r in reasons] == [*MILESTONES, None, None]
    assert [r.stage for r in reasons] == ["overdue"] * 10 + ["expired"] * 2
    assert queue.open_task.priority == 5
    assert {change.task.task_id for change in queue.changes} == {task_id_of(queue.changes[0].task.reasons[0].alert_id)}


@pytest.mark.parametrize(
    ("context", "alert", "rank_h", "team_min", "anyone_min"),
    [
        pytest.param(CONTEXT, inspection(250, "due"), 36, 10, 20, id="maintenance"),
        pytest.param(CONTEXT, fault(Severity.CRITICAL), 0, 2, 4, id="critical"),
        pytest.param(CONTEXT, fault(Severity.MAJOR), 0.5, 2, 4, id="major"),
        pytest.param(CONTEXT, fault(Severity.GENERAL), 2, 10, 20, id="general"),
        pytest.param(replace(CONTEXT, team_id=None), inspection(250, "due"), 36, 10, 10, id="no-team"),
        pytest.param(replace(CONTEXT, expert_id=None), inspection(250, "due"), 36, 0, 20, id="no-expert"),
        pytest.param(
            replace(CONTEXT, expert_id=None, team_id=None),
            inspection(250, "due"),
            36,
            0,
            0,
            id="neither-anyone-at-once",
        ),
    ],
)
def test_rank_and_routes_are_stored(
    context: MachineContext, alert: Alert, rank_h: float, team_min: float, anyone_min: float
) -> None:
    [change] = MemoryQueue(context=context).take(alert)
    task = change.task
    assert task.rank_at == NOON + timedelta(hours=rank_h)
    assert task.route_team_at == NOON + timedelta(minutes=team_min)
    assert task.route_anyone_at == NOON + timedelta(minutes=anyone_min)


@pytest.mark.parametrize("priority", range(1, 10))
def test_rank_offsets_of_the_policy(priority: int) -> None:
    assert QUEUE.rank_offset_h[priority - 1] == (0, 0.5, 2, 4, 24, 36, 48, 60, 72)[priority - 1]


def test_a_more_urgent_reason_moves_the_task_up_but_not_its_beginning() -> None:
    queue = MemoryQueue()
    queue.take(inspection(250, "due"), fault(Severity.MAJOR))
    task = queue.open_task
    assert (task.priority, task.offered_at) == (2, NOON)
    assert task.rank_at == NOON + timedelta(minutes=30)
    assert task.route_anyone_at == NOON + timedelta(minutes=4)


@pytest.mark.parametrize(
    "alert",
    [
        pytest.param(replace(inspection(250, "due"), machine_id="OTHER"), id="another-machine-in-the-data"),
        pytest.param(
            replace(inspection(250, "due"), data=replace(inspection(250, "due").data, milestone_h=None)),
            id="no-milestone",
        ),
        pytest.param(
            replace(warranty("machine", "expired"), data=replace(warranty("machine", "expired").data, coverage=None)),
            id="no-coverage",
        ),
        pytest.param(
            replace(inspection(250, "due"), data=replace(inspection(250, "due").data, stage="expired")),
            id="stage-of-another-kind",
        ),
    ],
)
def test_an_alert_that_makes_no_sense(alert: Alert) -> None:
    understood = matter_of(alert, QUEUE.priorities, NOON)
    assert isinstance(understood, NotUnderstood)
    assert MACHINE not in understood.message
