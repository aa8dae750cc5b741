"""Whether a moment lies in permitted hours and until when: both ends, midnights, whole days, another zone."""

from datetime import UTC, timedelta
from typing import Literal

import pytest

from telemetry_svc.rules.permitted_hours import span_at
from telemetry_svc.telemetry import PermittedHours
from tests.rules.machines import machine, utc

Days = tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...]
WORKDAYS: Days = ("mon", "tue", "wed", "thu", "fri")
EVERY_DAY: Days = (*WORKDAYS, "sat", "sun")
SHIFT = (PermittedHours(WORKDAYS, "08:30", "17:45"),)
TWO_SHIFTS = (PermittedHours(WORKDAYS, "08:00", "12:00"), PermittedHours(WORKDAYS, "12:00", "18:00"))
NIGHT = (PermittedHours(("sun",), "20:00", "04:00"),)
TO_MIDNIGHT = (PermittedHours(EVERY_DAY, "08:00", "24:00"),)
AROUND_THE_CLOCK = (PermittedHours(("sat",), "06:00", "06:00"),)
MONDAYS = (PermittedHours(("mon",), "08:00", "10:00"),)


@pytest.mark.parametrize(
    ("hours", "moment", "inside", "until"),
    [
        pytest.param(SHIFT, "2026-11-23 08:29:59", False, "2026-11-23 08:30", id="a second before it begins"),
        pytest.param(SHIFT, "2026-11-23 08:30", True, "2026-11-23 17:45", id="as it begins"),
        pytest.param(SHIFT, "2026-11-23 17:44:59", True, "2026-11-23 17:45", id="its last second"),
        pytest.param(SHIFT, "2026-11-23 17:45", False, "2026-11-24 08:30", id="its end is not inside"),
        pytest.param(SHIFT, "2026-11-20 19:00", False, "2026-11-23 08:30", id="Friday evening"),
        pytest.param(TWO_SHIFTS, "2026-11-23 11:00", True, "2026-11-23 12:00", id="the first of two shifts"),
        pytest.param(TWO_SHIFTS, "2026-11-23 12:00", True, "2026-11-23 18:00", id="the second one"),
        pytest.param(NIGHT, "2026-11-22 19:59", False, "2026-11-22 20:00", id="before the night"),
        pytest.param(NIGHT, "2026-11-22 23:00", True, "2026-11-23 04:00", id="before midnight"),
        pytest.param(NIGHT, "2026-11-23 03:00", True, "2026-11-23 04:00", id="after midnight: the window of yesterday"),
        pytest.param(NIGHT, "2026-11-23 04:00", False, "2026-11-29 20:00", id="the night is over"),
        pytest.param(TO_MIDNIGHT, "2026-11-23 23:59:59", True, "2026-11-24 00:00", id="24:00 is the end of the day"),
        pytest.param(TO_MIDNIGHT, "2026-11-24 00:00", False, "2026-11-24 08:00", id="and not a minute more"),
        pytest.param(AROUND_THE_CLOCK, "2026-11-21 07:00", True, "2026-11-22 06:00", id="the same end: a whole day"),
        pytest.param(AROUND_THE_CLOCK, "2026-11-22 06:00", False, "2026-11-28 06:00", id="and no more"),
        pytest.param(MONDAYS, "2026-11-23 10:00", False, "2026-11-30 08:00", id="nearly a week ahead"),
    ],
)
@pytest.mark.parametrize(("zone", "behind_h"), [("UTC", 0), ("Asia/Shanghai", 8)])
def test_at(hours: tuple[PermittedHours, ...], moment: str, inside: bool, until: str, zone: str, behind_h: int) -> None:
    of = machine(permitted_hours=hours, time_zone=zone)
    span = span_at(of, utc(moment) - timedelta(hours=behind_h))
    assert (span.inside, span.until) == (inside, utc(until) - timedelta(hours=behind_h))
    assert span.until.tzinfo is UTC
