"""The real readings of `examples/fleet-readings`, by the policy's text alone: the totals of its README."""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.truth import Fact, truth
from telemetry_svc.telemetry import EditionId, Machine, MachineId

FILE = Path(__file__).parents[2] / "examples" / "fleet-readings" / "fleet-readings.csv"
TODAY = datetime(2026, 9, 16, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with FILE.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def facts(rows: list[dict[str, str]]) -> list[Fact]:
    machines = [_machine(row) for row in rows]
    return truth(machines, [_delivery(row) for row in rows], registered_at=TODAY, until=TODAY)


def _machine(row: dict[str, str]) -> Machine:
    return Machine(MachineId(row["machine_id"]), float(row["tonnage_t"]), EditionId("zoomlion-2011-rev1"))


def _delivery(row: dict[str, str]) -> Delivery:
    ping = {"recorded_at": row["recorded_at"], "hour_meter_h": float(row["hour_meter_h"])}
    return Delivery(
        datetime.fromisoformat(row["recorded_at"]), row["machine_id"], {"machine_id": row["machine_id"], **ping}
    )


def test_the_file_holds_25_readings_of_25_machines(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 25
    assert {row["machine_id"] for row in rows} == {f"EXC-{number:03d}" for number in range(1, 26)}


def test_the_totals_are_those_of_its_readme(facts: list[Fact]) -> None:
    totals = Counter((fact.subject if fact.rule == "warranty" else fact.rule, fact.stage) for fact in facts)
    assert totals == {
        ("inspection", "due"): 192,
        ("inspection", "overdue"): 189,
        ("inspection", "upcoming"): 3,
        ("machine", "expired"): 15,
        ("machine", "expiring"): 2,
        ("structure", "expired"): 10,
    }


@pytest.mark.parametrize(
    ("rule", "stage", "machines"),
    [
        ("inspection", "upcoming", ["EXC-015", "EXC-020", "EXC-022"]),
        ("warranty", "expiring", ["EXC-015", "EXC-022"]),
    ],
)
def test_which_machines_wait_for_something(facts: list[Fact], rule: str, stage: str, machines: list[str]) -> None:
    assert [fact.machine_id for fact in facts if (fact.rule, fact.stage) == (rule, stage)] == machines


@pytest.mark.parametrize(
    ("machine_id", "due", "overdue", "warranty"),
    [
        ("EXC-001", 10, 10, ["machine expired", "structure expired"]),
        ("EXC-024", 4, 3, []),
        ("EXC-006", 4, 4, []),
    ],
)
def test_single_machines(facts: list[Fact], machine_id: str, due: int, overdue: int, warranty: list[str]) -> None:
    mine = [fact for fact in facts if fact.machine_id == machine_id]
    assert Counter(fact.stage for fact in mine if fact.rule == "inspection") == {"due": due, "overdue": overdue}
    assert [f"{fact.subject} {fact.stage}" for fact in mine if fact.rule == "warranty"] == warranty
