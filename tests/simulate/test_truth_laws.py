"""Laws of the truth over drawn fleets: the order of arrival changes nothing that agrees, and the plan says the same."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.observed import observe
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import Fact, truth
from telemetry_svc.units import rfc3339_ms
from tests.simulate.fleets import MONDAY, specs

pytestmark = pytest.mark.uncounted

LAWS = settings(max_examples=20, deadline=None)
ORDER_FREE = {"due", "overdue", "expired"}
Key = tuple[str, str, str, str]


def facts_of(fleet: Fleet, deliveries: list[Delivery], until_h: float | None = None) -> list[Fact]:
    spec = fleet.spec
    until = spec.start + timedelta(hours=spec.hours + 1 if until_h is None else until_h)
    return truth(fleet.machines, deliveries, registered_at=spec.start - timedelta(days=40), until=until)


def order_free(facts: list[Fact]) -> set[Key]:
    return {fact[:4] for fact in facts if fact.stage in ORDER_FREE}


@LAWS
@given(spec=specs, shuffle=st.integers())
def test_due_overdue_and_expired_do_not_depend_on_the_order_of_arrival(spec: FleetSpec, shuffle: int) -> None:
    fleet = build_fleet(spec)
    deliveries = list(iter_deliveries(fleet))
    shuffled = deliveries.copy()
    Random(shuffle).shuffle(shuffled)
    # All received in the end: what is shuffled is the order, not the future.
    arrived = [delivery._replace(at=spec.end + timedelta(minutes=1)) for delivery in shuffled]
    assert order_free(facts_of(fleet, arrived)) == order_free(facts_of(fleet, deliveries))


@LAWS
@given(spec=specs)
def test_repeats_and_lateness_change_nothing_of_what_is_due(spec: FleetSpec) -> None:
    plain = build_fleet(replace(spec, duplicates=0.0, late=0.0))
    fleet = build_fleet(spec)
    assert order_free(facts_of(fleet, list(iter_deliveries(fleet)))) == order_free(
        facts_of(plain, list(iter_deliveries(plain)))
    )


@LAWS
@given(spec=specs, share=st.floats(0, 1))
def test_a_fact_once_true_stays_true(spec: FleetSpec, share: float) -> None:
    fleet = build_fleet(spec)
    deliveries = list(iter_deliveries(fleet))
    assert set(facts_of(fleet, deliveries, spec.hours * share)) <= set(facts_of(fleet, deliveries))


@LAWS
@given(spec=specs)
def test_lost_clocks_and_meter_spikes_prove_nothing(spec: FleetSpec) -> None:
    sick = build_fleet(replace(spec, machines=6, clock_faults=2, meter_spikes=2))
    sound = build_fleet(replace(sick.spec, clock_faults=0, meter_spikes=0))
    healthy = {plan.machine.machine_id for plan in sick.plans if not (plan.spikes or plan.clock_year)}
    found = order_free(facts_of(sick, list(iter_deliveries(sick))))
    expected = order_free(facts_of(sound, list(iter_deliveries(sound))))
    assert found <= expected
    assert {key for key in expected if key[0] in healthy} <= found


def test_the_plan_of_an_episode_and_the_truth_of_its_reports_agree() -> None:
    """Without lateness an episode opens with the first ping of a running engine in it, and clears after its end."""
    fleet = build_fleet(FleetSpec(seed=11, machines=20, start=MONDAY, hours=14 * 24, faults=0.5, ping_every_s=300))
    deliveries = list(iter_deliveries(fleet))
    facts = [fact for fact in facts_of(fleet, deliveries) if fact.rule == "fault"]
    planned = dict(_planned_episodes(fleet, deliveries))
    opened = {fact[:3] for fact in facts if fact.stage == "opened"}
    assert len(planned) > 50
    assert planned.keys() <= opened
    assert all(_flaps(fleet, fact) for fact in opened - planned.keys())
    cleared = [fact for fact in facts if fact.stage == "cleared" and fact[:3] in planned]
    assert len(cleared) > 40
    assert all(fact.time and fact.time.timestamp() >= planned[fact[:3]] for fact in cleared)


def _planned_episodes(fleet: Fleet, deliveries: list[Delivery]) -> Iterator[tuple[tuple[str, str, str], int]]:
    """What the steady episodes of the plans make: (machine, rule, subject) and the second in which each one ends."""
    seen = observe(deliveries, fleet.spec.start, fleet.spec.end)
    for plan in fleet.plans:
        running = [ping.recorded_at for ping in seen[plan.machine.machine_id] if ping.running]
        for episode in plan.faults:
            inside = [at for at in running if episode.start_s <= int(at.timestamp()) < episode.end_s]
            if inside and not episode.flaps:
                subject = "{}/{}/{}".format(*episode.code[:3]) + f"@{rfc3339_ms(inside[0])}"
                yield (plan.machine.machine_id, "fault", subject), episode.end_s


def _flaps(fleet: Fleet, fact: tuple[str, str, str]) -> bool:
    machine_id, _, subject = fact
    plan = next(plan for plan in fleet.plans if plan.machine.machine_id == machine_id)
    codes = {"{}/{}/{}".format(*episode.code[:3]) for episode in plan.faults if episode.flaps}
    return subject.partition("@")[0] in codes


def test_a_working_fleet_has_something_of_everything() -> None:
    """A fleet that raises nothing would agree with every bug."""
    spec = FleetSpec(seed=2, machines=60, start=MONDAY, hours=21 * 24, faults=0.3, ping_every_s=900, late=0.1)
    fleet = build_fleet(spec)
    stages = {(fact.rule, fact.stage) for fact in facts_of(fleet, list(iter_deliveries(fleet)))}
    assert stages >= {
        ("inspection", "upcoming"),
        ("inspection", "due"),
        ("inspection", "overdue"),
        ("warranty", "expiring"),
        ("warranty", "expired"),
        ("fault", "opened"),
        ("fault", "worsened-major"),
        ("fault", "cleared"),
    }
