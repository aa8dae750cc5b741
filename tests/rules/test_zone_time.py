"""Days and months of a promise: clamped month ends, midnights skipped or repeated, no day that breaks it."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.rules import step
from telemetry_svc.rules.zone_time import NEVER, add_months, days_before, midnight, next_day
from telemetry_svc.telemetry import Tick
from tests.rules.budget import budget
from tests.rules.machines import machine, policy, registration, utc
from tests.rules.reference_meter import months_later

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "Pacific/Kiritimati",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "America/Havana",
]


@pytest.mark.parametrize(
    ("day", "months", "wanted"),
    [
        ("2026-03-15", 18, "2027-09-15"),
        ("2026-08-31", 18, "2028-02-29"),
        ("2027-08-31", 18, "2029-02-28"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2028-02-29", 48, "2032-02-29"),
        ("2026-12-31", 2, "2027-02-28"),
        ("2026-01-31", 0, "2026-01-31"),
        ("2026-11-30", 1, "2026-12-30"),
    ],
)
def test_the_corresponding_day(day: str, months: int, wanted: str) -> None:
    assert add_months(date.fromisoformat(day), months) == date.fromisoformat(wanted)


@given(st.dates(date(1970, 1, 1), date(2100, 12, 31)), st.integers(0, 240))
@budget(300)
def test_the_corresponding_day_as_the_reference_finds_it(day: date, months: int) -> None:
    assert add_months(day, months) == months_later(day, months)


@pytest.mark.parametrize(
    ("day", "zone", "wanted"),
    [
        pytest.param("2026-09-16", "Asia/Shanghai", "2026-09-15 16:00", id="China"),
        pytest.param("2018-11-04", "America/Sao_Paulo", "2018-11-04 03:00", id="00:00 is skipped: the change itself"),
        pytest.param("2026-11-01", "America/Havana", "2026-11-01 04:00", id="00:00 comes twice: the first"),
        pytest.param("2011-12-30", "Pacific/Apia", "2011-12-30 10:00", id="a day that never was"),
    ],
)
def test_the_first_instant_of_a_day(day: str, zone: str, wanted: str) -> None:
    assert midnight(date.fromisoformat(day), zone) == utc(wanted)


@given(st.dates(), st.sampled_from(ZONES), st.integers(0, 400))
@budget(200)
def test_no_day_breaks_it(day: date, zone: str, months: int) -> None:
    assert datetime.min.replace(tzinfo=UTC) < midnight(day, zone) < NEVER
    later = add_months(day, months)
    assert days_before(later, 30) <= later <= next_day(later)
    of = machine(delivered_on=day, time_zone=zone)
    state = step(policy(), None, registration(of)).state
    step(policy(), state, Tick(utc("2099-12-31")))


def test_an_instant_is_in_utc_wherever_this_runs() -> None:
    assert midnight(date(2026, 9, 16), "Asia/Shanghai").tzinfo is UTC


def test_the_calendar_ends_in_9998_and_stands_still_there() -> None:
    assert add_months(date(9998, 1, 31), 1) == date(9998, 2, 28)
    assert add_months(date(9998, 12, 31), 1) == date(9998, 12, 31)
    assert next_day(date.max) == date.max
    assert days_before(date(1, 1, 3), 30) == date.min
