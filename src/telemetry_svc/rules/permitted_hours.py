"""Whether a moment lies inside a machine's permitted hours, and until when that holds (contract.md, `permitted_hours`).

The answer is remembered with the instant up to which it holds, so that a fix asks the calendar only a few times a day.
Windows are in the machine's own zone; one whose end is not after its start crosses midnight.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from telemetry_svc.rules.zone_time import local_day
from telemetry_svc.telemetry import Machine, PermittedHours

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HORIZON_DAYS = 8


class Span(Struct, frozen=True, omit_defaults=True, gc=False):
    """`inside` holds from the moment asked about up to `until` (excluded)."""

    inside: bool
    until: datetime


def span_at(machine: Machine, moment: datetime) -> Span:
    """For a machine that has permitted hours; looks one week ahead."""
    today = local_day(moment, machine.time_zone)
    inside, until = False, moment + timedelta(days=_HORIZON_DAYS - 1)
    for begin, end in _windows(machine.permitted_hours, ZoneInfo(machine.time_zone), today):
        inside = inside or begin <= moment < end
        until = min([until, *(edge for edge in (begin, end) if edge > moment)])
    return Span(inside, until)


def _windows(hours: tuple[PermittedHours, ...], zone: ZoneInfo, today: date) -> Iterator[tuple[datetime, datetime]]:
    """The windows of the days around `today`, as UTC instants."""
    for offset in range(-1, _HORIZON_DAYS):
        day = today + timedelta(days=offset)
        for row in hours:
            if DAYS[day.weekday()] in row.days:
                begin, end = _instant(day, row.from_, zone), _instant(day, row.to, zone)
                yield begin, end if end > begin else _instant(day + timedelta(days=1), row.to, zone)


def _instant(day: date, hour_minute: str, zone: ZoneInfo) -> datetime:
    hour, minute = int(hour_minute[:2]), int(hour_minute[3:])
    if hour == 24:
        day, hour = day + timedelta(days=1), 0
    return datetime.combine(day, time(hour, minute), zone).astimezone(UTC)
