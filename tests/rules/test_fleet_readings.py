"""The real snapshot of 25 excavators must give exactly what its own README says (examples/fleet-readings)."""

import csv
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from telemetry_svc.rules import step
from telemetry_svc.telemetry import Machine, MachineId, Ping, Reading, Tick
from tests.rules.machines import REV1, ch, policy, registration, utc, word

ROWS = list(
    csv.DictReader(
        (Path(__file__).parents[2] / "examples" / "fleet-readings" / "fleet-readings.csv").read_text().splitlines()
    )
)
REGISTERED_AT = utc("2026-09-16 08:00")
BY_MACHINE = {row["machine_id"]: row for row in ROWS}


def raised(row: dict[str, str]) -> list[str]:
    registered = step(
        policy(),
        None,
        registration(Machine(MachineId(row["machine_id"]), float(row["tonnage_t"]), REV1), REGISTERED_AT),
    )
    assert registered.events == ()
    at = datetime.fromisoformat(row["recorded_at"])
    ping = Ping(
        MachineId(row["machine_id"]), at, ch(float(row["hour_meter_h"])), engine_running=row["engine_running"] == "true"
    )
    return [word(event) for event in step(policy(), registered.state, Reading(ping, REGISTERED_AT)).events]


def test_exc_001_ten_due_ten_overdue_two_expired_in_the_order_of_their_hours() -> None:
    inspections = [
        f"inspection {milestone_h} {stage}"
        for milestone_h in (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000)
        for stage in ("due", "overdue")
    ]
    at_3000 = inspections.index("inspection 3000 due") + 1
    at_6000 = inspections.index("inspection 6000 due") + 1
    assert raised(BY_MACHINE["EXC-001"]) == [
        *inspections[:at_3000],
        "warranty machine expired",
        "checkup 1 due",
        *inspections[at_3000:at_6000],
        "warranty structure expired",
        *inspections[at_6000:],
    ]


def test_exc_024_four_due_three_overdue_and_nothing_else() -> None:
    assert raised(BY_MACHINE["EXC-024"]) == [
        "inspection 50 due",
        "inspection 50 overdue",
        "inspection 250 due",
        "inspection 250 overdue",
        "inspection 500 due",
        "inspection 500 overdue",
        "inspection 1000 due",
    ]


def test_the_whole_file() -> None:
    per_machine = {row["machine_id"]: raised(row) for row in ROWS}
    totals = Counter(
        one if not one.startswith("inspection") else one.split()[2] for words in per_machine.values() for one in words
    )
    assert totals == {
        "due": 192,
        "overdue": 189,
        "upcoming": 3,
        "warranty machine expired": 15,
        "warranty machine expiring": 2,
        "warranty structure expired": 10,
        "checkup 1 due": 15,
    }
    assert [name for name, words in per_machine.items() if any("upcoming" in one for one in words)] == [
        "EXC-015",
        "EXC-020",
        "EXC-022",
    ]
    assert [name for name, words in per_machine.items() if "warranty machine expiring" in words] == [
        "EXC-015",
        "EXC-022",
    ]


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ("2027-09-14 15:59:59", []),  # 23:59:59 of the day before in China: W1 ended there on 15 September
        ("2027-09-14 16:00:00", ["checkup 2 due"]),
        ("2028-09-14 16:00:00", ["checkup 2 due", "checkup 3 due"]),
    ],
)
def test_the_next_check_up_comes_a_year_later_by_the_clock(at: str, wanted: list[str]) -> None:
    row = BY_MACHINE["EXC-001"]
    state = step(policy(), None, registration(Machine(MachineId("EXC-001"), 22.5, REV1), REGISTERED_AT)).state
    ping = Ping(MachineId("EXC-001"), datetime.fromisoformat(row["recorded_at"]), ch(7915.70))
    state = step(policy(), state, Reading(ping, REGISTERED_AT)).state
    events = step(policy(), state, Tick(utc(at))).events
    assert [word(event) for event in events] == wanted
