"""Days and months of a policy as instants, in the machine's own time zone.

A promise of "18 months" ends at a midnight somewhere (policy.md, W1, R4). These functions turn such days into UTC
instants once, when a machine is registered, so that nothing per ping does calendar arithmetic. Every function is total:
days at the edges of the calendar are clamped, never an `OverflowError`.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""Stands for "no such instant", so that the hot path compares without asking for `None` first."""

_FIRST_YEAR, _LAST_YEAR = 2, 9998


def add_months(day: date, months: int) -> date:
    """The corresponding day so many months later; a month's last day is clamped (31 Aug + 18 months = 29 Feb 2028)."""
    index = day.year * 12 + day.month - 1 + months
    year, month = index // 12, index % 12 + 1
    if year > _LAST_YEAR:
        return date(_LAST_YEAR, 12, 31)
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def midnight(day: date, time_zone: str) -> datetime:
    """The first instant (UTC) of a day in an IANA zone; where 00:00 is skipped, the instant of the change."""
    clamped = day.replace(year=min(max(day.year, _FIRST_YEAR), _LAST_YEAR))
    return datetime.combine(clamped, time(0), ZoneInfo(time_zone)).astimezone(UTC)


def local_day(moment: datetime, time_zone: str) -> date:
    """The calendar day of an instant in an IANA zone."""
    return moment.astimezone(ZoneInfo(time_zone)).date()


def days_before(day: date, days: int) -> date:
    return day - timedelta(days=min(days, (day - date.min).days))


def next_day(day: date) -> date:
    return day + timedelta(days=1) if day < date.max else day
