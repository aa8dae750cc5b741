"""The service's rules over whole simulated fleets, held to the truth: nothing missing, nothing else, the right times.

Every ping goes through the codec as bytes, repeats are dropped by its number, and a tick comes every ten minutes, as
the scheduler's would. Two computations that share no line of code agree on every fact, or one of them is wrong.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from telemetry_svc.codec import ping as codec
from telemetry_svc.events import Event
from telemetry_svc.policies import load_policies
from telemetry_svc.rules import MachineState, Policy, step
from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import truth
from telemetry_svc.telemetry import Input, Machine, Ping, Reading, Registration, Tick

pytestmark = pytest.mark.uncounted

TICK_EVERY = timedelta(minutes=10)
Key = tuple[str, str, str, str]

SPECS = [
    pytest.param({"late": 0.0, "faults": 0.3}, id="in order"),
    pytest.param({"late": 0.4, "faults": 0.5, "duplicates": 0.3}, id="late and repeated"),
    pytest.param({"late": 0.1, "faults": 3.0, "ping_every_s": 300}, id="many faults"),
    pytest.param({"late": 0.1, "clock_faults": 4}, id="lost clocks"),
    pytest.param({"meter_spikes": 4}, id="spikes"),
]


@pytest.mark.parametrize("options", SPECS)
def test_what_the_rules_raise_is_what_is_true(options: dict[str, float]) -> None:
    spec = _spec(**options)
    fleet = build_fleet(spec)
    deliveries = list(iter_deliveries(fleet))
    until = spec.end + timedelta(hours=1)
    raised: dict[Key, datetime] = {_key(event): event.time for event in _raised(fleet, deliveries, until)}
    facts = truth(fleet.machines, deliveries, registered_at=spec.start, until=until)
    expected = {fact[:4]: fact.time or raised.get(fact[:4]) for fact in facts}
    assert len(expected) > 40
    assert expected.items() <= raised.items()
    assert [key for key in raised if key not in expected and not _beyond_the_truth(key)] == []


def _key(event: Event) -> Key:
    return event.machine_id, event.rule, event.subject, event.stage


def _spec(**options: float) -> FleetSpec:
    asked = {
        "seed": 1,
        "machines": 12,
        "start": datetime(2026, 3, 1, 7, tzinfo=UTC),
        "hours": 20 * 24,
        "ping_every_s": 900,
    }
    return FleetSpec(**(asked | options))  # type: ignore[arg-type]


def _beyond_the_truth(key: Key) -> bool:
    """What `truth` does not judge: yearly check-ups, and *upcoming* by the service's own forecast."""
    _, rule, _, stage = key
    return rule == "checkup" or (rule, stage) == ("inspection", "upcoming")


def _raised(fleet: Fleet, deliveries: list[Delivery], until: datetime) -> Iterator[Event]:
    policies = load_policies(None)
    for machine in fleet.machines:
        mine = (delivery for delivery in deliveries if delivery.machine_id == machine.machine_id)
        inputs = _inputs(machine, mine, fleet.spec.start, until)
        yield from _first_occurrences(policies[machine.policy_edition], inputs)


def _inputs(machine: Machine, mine: Iterable[Delivery], start: datetime, until: datetime) -> Iterator[Input]:
    """The registration, then readings and ticks in the order of the broker's clock."""
    yield Registration(UUID(int=1), machine, start, start)
    tick_at, known = start + TICK_EVERY, set()
    for delivery in mine:
        while tick_at <= delivery.at:
            yield Tick(tick_at)
            tick_at += TICK_EVERY
        ping = codec.decode(msgspec.json.encode(delivery.ping))
        assert isinstance(ping, Ping)
        if (number := (ping.recorded_at, codec.dedupe_number(ping))) not in known:
            known.add(number)
            yield Reading(ping, delivery.at, codec.is_future(ping.recorded_at, delivery.at))
    yield Tick(until)


def _first_occurrences(policy: Policy, inputs: Iterable[Input]) -> Iterator[Event]:
    """A repeat of an id may differ in content; the first counts (contract.md)."""
    state: MachineState | None = None
    known = set()
    for given in inputs:
        decided = step(policy, state, given)
        state = decided.state
        for event in decided.events:
            if event.id not in known:
                known.add(event.id)
                yield event
