"""The journal: written ahead, read back equal, whole up to the moment of a kill."""

from datetime import timedelta
from itertools import islice
from pathlib import Path

from telemetry_svc.simulate.delivery import iter_deliveries
from telemetry_svc.simulate.fleet import build_fleet
from telemetry_svc.simulate.journal import journaled, read_deliveries, read_facts, write_lines
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import truth
from tests.simulate.fleets import MONDAY

FLEET = build_fleet(
    FleetSpec(seed=4, machines=6, start=MONDAY, hours=24, faults=4.0, duplicates=0.2, late=0.2, meter_spikes=2)
)


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    deliveries = list(iter_deliveries(FLEET))
    facts = truth(FLEET.machines, deliveries, registered_at=MONDAY, until=MONDAY + timedelta(days=2))
    write_lines(deliveries, tmp_path / "pings.jsonl")
    write_lines(facts, tmp_path / "truth.jsonl")
    assert list(read_deliveries(tmp_path / "pings.jsonl")) == deliveries
    assert list(read_facts(tmp_path / "truth.jsonl")) == facts
    assert {fact.time is None for fact in facts} == {True, False}


def test_a_line_stands_in_the_file_before_its_ping_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "pings.jsonl"
    with path.open("wb") as out:
        for number, delivery in enumerate(islice(journaled(iter_deliveries(FLEET), out), 20), start=1):
            lines = list(read_deliveries(path))
            assert len(lines) == number
            assert lines[-1] == delivery


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pings.jsonl"
    deliveries = list(islice(iter_deliveries(FLEET), 3))
    write_lines(deliveries, path)
    path.write_bytes(path.read_bytes()[:-2])
    assert list(read_deliveries(path)) == deliveries[:2]
