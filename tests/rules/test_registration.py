"""A registration that changes: what the old terms had decided, what is settled, and what stays known (policy.md)."""

from datetime import datetime, timedelta

import pytest

from telemetry_svc.telemetry import Fault, MachineStatus, Reading, Sensors
from tests.rules.machines import Run, machine, reading, registration, utc

T0 = utc("2026-11-22 04:20:31")
ENDS_AT = utc("2027-09-15 16:00")


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def back(run: Run) -> None:
    """Retired for an hour."""
    assert run.change(at(1_000), status=MachineStatus.RETIRED) == []
    assert run.change(at(1_001)) == []


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        pytest.param(utc("2027-08-15 16:00"), ["warranty machine expiring"], id="as the window opens"),
        pytest.param(ENDS_AT - timedelta(seconds=1), ["warranty machine expiring"], id="a second before the end"),
        pytest.param(ENDS_AT, ["warranty machine expired", "checkup 1 due"], id="at the end"),
        pytest.param(ENDS_AT + timedelta(days=9), ["warranty machine expired", "checkup 1 due"], id="after it"),
    ],
)
def test_what_the_old_terms_had_decided_by_then_comes_first(when: datetime, wanted: list[str]) -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    assert run.change(when, delivered_on=utc("2027-09-01").date()) == wanted
    assert {event.time for event in run.events} <= {ENDS_AT, utc("2027-08-15 16:00")}


def test_a_change_is_no_clock_for_silence() -> None:
    run = Run(machine(delivered_on="2026-03-15", initial_h=2_600))
    run.read(*(reading(utc(f"2027-09-0{day}"), 2_605) for day in (1, 5, 9)))
    assert run.change(utc("2027-09-20"), customer_id="C-2") == ["warranty machine expired", "checkup 1 due"]
    assert len(run.tick(utc("2027-09-21"))) == 1, "the broker's clock is"


@pytest.mark.parametrize(
    ("before", "then", "first_h", "wanted"),
    [
        pytest.param(True, False, None, [], id="quiet stays quiet until the first reading"),
        pytest.param(False, True, None, [], id="quiet told later, before the first reading"),
        pytest.param(False, False, None, ["inspection 250 due"], id="never quiet"),
        pytest.param(False, True, 210, ["inspection 250 due"], id="quiet after the first reading is too late"),
    ],
)
def test_quiet(before: bool, then: bool, first_h: float | None, wanted: list[str]) -> None:
    run = Run(machine(initial_h=60), quiet=before)
    if first_h is not None:
        run.read(reading(at(0), first_h))
    run.give(registration(run.machine, at(1), quiet=then))
    found = run.read(reading(at(100), 260))
    assert found == wanted
    assert run.read(reading(at(200), 301)) == ["inspection 250 overdue"] * len(wanted)


def test_quiet_is_over_with_a_first_reading_that_came_while_retired() -> None:
    run = Run(machine(initial_h=60), quiet=True)
    run.change(at(1), status=MachineStatus.RETIRED)
    assert run.read(reading(at(2), 100)) == []
    run.change(at(3), status=MachineStatus.ACTIVE)
    assert run.read(reading(at(300), 300)) == ["inspection 250 due", "inspection 250 overdue"]


def test_quiet_beyond_the_warranty_settles_its_check_ups() -> None:
    run = Run(quiet=True, at=utc("2026-01-15"))
    assert run.read(reading(utc("2026-01-20 03:00"), 3_500)) == []
    assert run.state.next_check_at == utc("2027-01-19 16:00"), "a year after the day of that reading"
    assert run.tick(utc("2027-01-19 16:00")) == ["checkup 2 due"]


def test_what_a_retired_registration_shows_as_past_is_settled_for_good() -> None:
    run = Run(machine(initial_h=600, status=MachineStatus.RETIRED))
    assert run.change(at(0), status=MachineStatus.ACTIVE, initial_ch=0) == []
    assert run.read(reading(at(1), 700)) == []
    assert run.read(reading(at(300), 950)) == ["inspection 1000 upcoming"]


def test_an_open_episode_of_a_sensor_ends_with_the_retirement_without_a_word() -> None:
    run = Run()
    low, full = Sensors(fuel_level_pct=9), Sensors(fuel_level_pct=50)
    assert run.read(reading(at(0), sensors=low)) == ["sensor fuel_level_pct opened"]
    back(run)
    assert run.read(reading(at(1_002), sensors=full)) == []
    assert run.read(reading(at(1_003), sensors=low)) == ["sensor fuel_level_pct opened"]


def report(hours: float, *faults: Fault) -> Reading:
    return reading(at(hours), faults=faults)


@pytest.mark.parametrize(
    ("known", "late"),
    [
        pytest.param([report(100)], [report(50, Fault(110, 0))], id="an empty list"),
        pytest.param(
            [report(100, Fault(0, 0, source_address=3))],
            [report(50, Fault(110, 0, source_address=3))],
            id="a list of one address",
        ),
        pytest.param(
            [reading(at(100), sensors=Sensors(fuel_level_pct=50))],
            [reading(at(50), sensors=Sensors(fuel_level_pct=9))],
            id="a sensor",
        ),
        pytest.param(
            [reading(at(100), sensors=Sensors(coolant_temperature_c=90))],
            [
                reading(at(50 + n / 10), sensors=Sensors(coolant_temperature_c=hot))
                for n, hot in enumerate((90, 120, 120))
            ],
            id="a sensor, after a late ordinary value",
        ),
    ],
)
def test_what_was_late_before_stays_late_after_a_retirement(known: list[Reading], late: list[Reading]) -> None:
    run = Run()
    assert run.read(*known) == []
    back(run)
    assert run.read(*late) == []
