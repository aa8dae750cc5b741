"""The ways of delivery: shares as asked for, bounded backlogs, and the same pings whatever the way."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import islice, pairwise

import msgspec
import pytest
from hypothesis import given, settings

from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.fleet import build_fleet
from telemetry_svc.simulate.pings import machine_pings
from telemetry_svc.simulate.spec import FleetSpec
from tests.simulate.fleets import MONDAY, specs

SPEC = FleetSpec(seed=5, machines=10, start=MONDAY, hours=10 * 24, ping_every_s=300)


def deliveries(spec: FleetSpec) -> list[Delivery]:
    return list(iter_deliveries(build_fleet(spec)))


def sent_by(spec: FleetSpec) -> Counter[bytes]:
    return Counter(msgspec.json.encode(delivery.ping) for delivery in deliveries(spec))


def late_share(found: list[Delivery]) -> float:
    """Pings that come in behind a newer one of the same machine, repeats left out."""
    newest: dict[str, int] = {}
    seen, late = set(), 0
    for delivery in found:
        sequence = delivery.ping.get("sequence")
        if not isinstance(sequence, int) or (delivery.machine_id, sequence) in seen:
            continue
        seen.add((delivery.machine_id, sequence))
        late += sequence < newest.get(delivery.machine_id, 0)
        newest[delivery.machine_id] = max(newest.get(delivery.machine_id, 0), sequence)
    return late / len(seen)


@settings(max_examples=20, deadline=None)
@given(spec=specs)
def test_the_way_of_delivery_changes_nothing_of_what_is_sent(spec: FleetSpec) -> None:
    plain = replace(spec, duplicates=0.0, late=0.0)
    assert sent_by(spec).keys() == sent_by(plain).keys()
    assert set(sent_by(plain).values()) <= {1}
    assert set(sent_by(spec).values()) <= {1, 2}


@settings(max_examples=20, deadline=None)
@given(spec=specs)
def test_deliveries_come_in_order_and_soon_after_the_last_of_their_backlog(spec: FleetSpec) -> None:
    found = deliveries(spec)
    assert all(earlier.at <= later.at for earlier, later in pairwise(found))
    assert all(delivery.at < spec.end + timedelta(seconds=5) for delivery in found)


@settings(max_examples=20, deadline=None)
@given(spec=specs)
def test_no_ping_is_dated_after_its_delivery(spec: FleetSpec) -> None:
    for plan in build_fleet(spec).plans:
        recorded_s = {msgspec.json.encode(sent.ping): sent.at_s for sent in machine_pings(spec, plan)}
        for delivery in iter_deliveries(build_fleet(spec)):
            if delivery.machine_id == plan.machine.machine_id:
                assert recorded_s[msgspec.json.encode(delivery.ping)] < delivery.at.timestamp()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_repeats_have_the_share_that_was_asked_for(share: float) -> None:
    times = sent_by(replace(SPEC, duplicates=share, late=0.1))
    again = sum(count - 1 for count in times.values())
    assert again / len(times) == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_late_pings_have_the_share_that_was_asked_for(share: float) -> None:
    assert late_share(deliveries(replace(SPEC, late=share, duplicates=0.1))) == pytest.approx(share, rel=0.2)


def test_a_backlog_is_bounded_and_comes_newest_first() -> None:
    by_machine: dict[str, list[int]] = {}
    for delivery in deliveries(replace(SPEC, late=0.3)):
        if isinstance(sequence := delivery.ping.get("sequence"), int):
            by_machine.setdefault(delivery.machine_id, []).append(sequence)
    lengths = set()
    for sequences in by_machine.values():
        runs = _falling_runs(sequences)
        lengths |= {len(run) for run in runs}
        assert [number for run in runs for number in reversed(run)] == sorted(sequences)
    assert {1, 2, 12} <= lengths
    assert max(lengths) == 12


def _falling_runs(numbers: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def test_a_fleet_of_a_century_starts_at_once() -> None:
    """Lazy: what is not taken is not made."""
    century = replace(SPEC, hours=100 * 365 * 24, late=0.1, duplicates=0.1)
    assert len(list(islice(iter_deliveries(build_fleet(century)), 50))) == 50
