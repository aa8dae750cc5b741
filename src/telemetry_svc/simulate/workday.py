"""When an excavator's engine runs: shifts with lunch, rest days, days off, in the site's own time zone.

Hours, faults and calls all hang on this, and a fleet that ran day and night everywhere would hide what a calendar
does: silence over a rest day, a night shift across midnight, a customer who sleeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

DAY_OFF_CHANCE = 0.05
LATE_START_S = 15 * 60
EARLY_END_S = 10 * 60
SHORTEST_PERIOD_S = 120
SUNDAY = 6


@dataclass(frozen=True, slots=True)
class WorkPattern:
    """A week's habit. `shifts` are minutes of the local day (over 1440: the next one); `rest_days` Monday = 0.

    `permitted` is a window that holds every shift, as `permitted_hours` of a registration; it may cross midnight.
    """

    name: str
    shifts: tuple[tuple[int, int], ...]
    rest_days: frozenset[int]
    permitted: tuple[str, str]


DAY = WorkPattern("day", ((450, 690), (810, 1050)), frozenset({SUNDAY}), ("06:00", "20:00"))
LONG_DAY = WorkPattern("long_day", ((360, 690), (780, 1140)), frozenset(), ("05:00", "21:00"))
NIGHT = WorkPattern("night", ((1170, 1440), (1500, 1740)), frozenset({4, 5}), ("18:00", "06:30"))
MINE = WorkPattern("mine", ((30, 450), (510, 930), (990, 1410)), frozenset(), ("00:00", "23:59"))
PATTERNS = (DAY, DAY, LONG_DAY, DAY, NIGHT, MINE)


def engine_periods(
    pattern: WorkPattern, zone: ZoneInfo, start_s: int, end_s: int, rng: Random
) -> Iterator[tuple[int, int]]:
    """Periods (on, off) in seconds since 1970, in order, apart by a minute or more, within [start_s, end_s)."""
    free_from_s = start_s
    for on_s, off_s in _planned(pattern, zone, start_s, end_s, rng):
        begin_s, finish_s = max(on_s, free_from_s), min(off_s, end_s)
        if finish_s - begin_s >= SHORTEST_PERIOD_S:
            yield begin_s, finish_s
            free_from_s = finish_s + 60


def _planned(pattern: WorkPattern, zone: ZoneInfo, start_s: int, end_s: int, rng: Random) -> Iterator[tuple[int, int]]:
    """What the days would bring, from the day before the start on: its night shift may reach into the start."""
    day = datetime.fromtimestamp(start_s, UTC).astimezone(zone).date() - timedelta(days=1)
    last = datetime.fromtimestamp(end_s, UTC).astimezone(zone).date()
    while day <= last:
        works = rng.random() >= DAY_OFF_CHANCE and day.weekday() not in pattern.rest_days
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        for from_min, to_min in pattern.shifts:
            late_s, early_s = int(rng.random() * LATE_START_S), int(rng.random() * EARLY_END_S)
            if works:
                yield _epoch_s(midnight, from_min) + late_s, _epoch_s(midnight, to_min) - early_s
        day += timedelta(days=1)


def _epoch_s(midnight: datetime, minutes: int) -> int:
    """A minute of the local day, by the clock on the wall."""
    return int((midnight + timedelta(minutes=minutes)).timestamp())
