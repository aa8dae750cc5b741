"""The demo's fleet: at whatever hour it starts there is something to call about, and no ping is dated ahead."""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.demo import WITH_CRITICAL_FAULT, demo_fleet
from telemetry_svc.simulate.fleet import Fleet
from telemetry_svc.simulate.truth import Fact, truth

EARLY_PINGS = 300
CALL_WINDOWS = ((8.5, 12.0), (14.0, 19.5))


def early(now: datetime, seed: int) -> tuple[Fleet, list[Delivery], list[Fact]]:
    """The first few hundred pings and what they raise in a service that registers the fleet at `now`."""
    fleet = demo_fleet(seed, now)
    deliveries = list(islice(iter_deliveries(fleet), EARLY_PINGS))
    return fleet, deliveries, truth(fleet.machines, deliveries, registered_at=now, until=now)


@pytest.mark.parametrize("hour", range(24))
def test_at_any_hour_there_is_something_to_call_about(hour: int) -> None:
    now = datetime(2026, 6, 3, hour, 17, tzinfo=UTC) + timedelta(days=hour)
    fleet, deliveries, facts = early(now, seed=hour)
    awake = {machine.machine_id for machine in fleet.machines if _may_be_called(now, machine.time_zone)}
    assert {delivery.machine_id for delivery in deliveries} == {machine.machine_id for machine in fleet.machines}
    assert any(_critical(fact) for fact in facts)
    assert any(fact.stage == "overdue" and fact.machine_id in awake for fact in facts)
    assert any((fact.subject, fact.stage) == ("machine", "expired") for fact in facts)


def test_a_milestone_is_crossed_on_the_first_day() -> None:
    now = datetime(2026, 6, 3, 9, tzinfo=UTC)
    fleet = demo_fleet(1, now)
    first_day = list(
        takewhile(lambda delivery: delivery.at < fleet.spec.start + timedelta(days=1), iter_deliveries(fleet))
    )
    facts = truth(fleet.machines, first_day, registered_at=now, until=now)
    assert [fact for fact in facts if (fact.subject, fact.stage) == ("250", "upcoming")]
    assert [fact for fact in facts if (fact.subject, fact.stage) == ("250", "due")]


def _critical(fact: Fact) -> bool:
    spn, _, _ = fact.subject.partition("/")
    return fact.rule == "fault" and fact.stage == "opened" and spn in {"98", "100", "110"}


def _may_be_called(at: datetime, time_zone: str) -> bool:
    local = at.astimezone(ZoneInfo(time_zone))
    return any(from_h <= local.hour + local.minute / 60 < to_h for from_h, to_h in CALL_WINDOWS)


def test_the_past_leads_up_to_now_and_the_critical_faults_last() -> None:
    now = datetime(2026, 6, 3, 9, 30, 12, 345678, tzinfo=UTC)
    fleet = demo_fleet(1, now)
    past = list(takewhile(lambda delivery: delivery.at <= now, iter_deliveries(fleet)))
    assert past[0].at - fleet.spec.start < timedelta(minutes=15)
    assert now - past[-1].at < timedelta(minutes=15)
    broken = [fleet.machines[index] for index in WITH_CRITICAL_FAULT]
    theirs = [delivery for delivery in past if delivery.machine_id in {machine.machine_id for machine in broken}]
    facts = [fact for fact in truth(broken, theirs, registered_at=now, until=now) if fact.rule == "fault"]
    assert [(fact.machine_id, fact.stage) for fact in facts] == sorted((one.machine_id, "opened") for one in broken)
    assert all(_critical(fact) for fact in facts)


def test_it_goes_on_after_now() -> None:
    now = datetime(2026, 6, 3, 9, tzinfo=UTC)
    assert demo_fleet(1, now).spec.end == now + timedelta(days=30)


def test_the_same_seed_and_hour_are_the_same_demo() -> None:
    now = datetime(2026, 6, 3, 9, tzinfo=UTC)
    assert early(now, 1)[1] == early(now, 1)[1]
    assert early(now, 1)[1] != early(now, 2)[1]
