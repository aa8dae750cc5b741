"""How many hours a day a machine works, from its own readings (policy.md, I1 "forecast").

One point per day, the first accepted reading of it, over the window of the policy: small enough to live in the
state. The trend is the median slope of pairs half the window apart (Theil's incomplete method), which neither a
weekend nor a changed meter bends. A machine at rest has no trend.
"""

from datetime import UTC, datetime, time, timedelta
from statistics import median

from msgspec import Struct

from telemetry_svc.rules.zone_time import NEVER

_DAY = timedelta(days=1)


class ForecastBlock(Struct, frozen=True):
    """`within`: how far ahead a forecast announces; a trend needs `min_days` points of the last `window_days`.

    At rest: less than `resting_below_ch` a day, by the trend or over the last `resting_days`.
    """

    within: timedelta
    window_days: int
    min_days: int
    resting_days: int
    resting_below_ch: int


class Point(Struct, frozen=True, array_like=True, gc=False):
    at: datetime
    true_ch: int


class UsageState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`next_day_at`: a reading from then on is the first of its day. `per_day_ch`: the trend, 0 = none."""

    points: tuple[Point, ...] = ()
    next_day_at: datetime = datetime.min.replace(tzinfo=UTC)
    per_day_ch: float = 0.0


def observed(block: ForecastBlock, state: UsageState, at: datetime, true_ch: int) -> UsageState:
    """With the first accepted reading of another day."""
    oldest_at = at - timedelta(days=block.window_days)
    points = (*(point for point in state.points if point.at >= oldest_at), Point(at, true_ch))
    next_day_at = datetime.combine(at.date(), time(0), UTC) + _DAY
    return UsageState(points, next_day_at, _trend(block, points))


def _trend(block: ForecastBlock, points: tuple[Point, ...]) -> float:
    if len(points) < block.min_days:
        return 0.0
    half = len(points) // 2
    pairs = zip(points, points[half:], strict=False)
    trend = median((later.true_ch - earlier.true_ch) / ((later.at - earlier.at) / _DAY) for earlier, later in pairs)
    return 0.0 if trend < block.resting_below_ch or _rests(block, points) else trend


def _rests(block: ForecastBlock, points: tuple[Point, ...]) -> bool:
    """Hardly any hours over the last days, whatever it did before."""
    last = points[-1]
    since = max((point for point in points if last.at - point.at >= block.resting_days * _DAY), default=None, key=_when)
    if since is None:
        return False
    return last.true_ch - since.true_ch < block.resting_below_ch * ((last.at - since.at) / _DAY)


def _when(point: Point) -> datetime:
    return point.at


def due_at(state: UsageState, milestone_ch: int, at: datetime, true_ch: int) -> datetime | None:
    """When the trend reaches a milestone, `None` without a trend."""
    if state.per_day_ch <= 0:
        return None
    days = (milestone_ch - true_ch) / state.per_day_ch
    return at + timedelta(days=days) if days < (NEVER - at) / _DAY - 1 else None


def reach_ch(block: ForecastBlock, state: UsageState) -> int:
    """How many hours before a milestone its forecast falls within the policy's days."""
    return int(state.per_day_ch * (block.within / _DAY))
