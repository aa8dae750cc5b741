"""How fast a process's memory grows, with the range in which the truth lies, and what that says of a promised limit.

Memory grows in steps and each reading hangs on the one before, so the interval of a textbook is too narrow. Ours is
wider by what the readings have in common with their neighbours, and by what can grow unseen in memory that was freed.
"""

from collections.abc import Sequence
from enum import Enum
from itertools import combinations, pairwise
from math import inf, sqrt
from statistics import fmean, median
from typing import NamedTuple

BINS = 30
"""The readings are judged by the medians of so many equal stretches of time: a peak of a moment moves none of them."""
GRAIN_MB = 0.25
"""What is freed is used again before any page is new: less than this may come or go without being seen."""
Z = 1.96
"""An interval of 95 %."""
MOST_ALIKE = 0.9
SHORTEST_S = 15 * 60
"""In less, what a process takes as it warms up cannot be told from a leak."""

Reading = tuple[float, float]
"""Seconds since the start, MB."""


class Verdict(Enum):
    """Whether a slope keeps below the limit, by its interval."""

    KEPT = "kept"
    BROKEN = "BROKEN"
    OPEN = "cannot tell"


class Growth(NamedTuple):
    """MB at the first and the last, MB/h, and the interval (MB/h) in which the slope is by 19 of 20."""

    first_mb: float
    last_mb: float
    per_h: float
    low: float
    high: float

    def verdict(self, limit_per_h: float) -> Verdict:
        if self.high < limit_per_h:
            return Verdict.KEPT
        return Verdict.BROKEN if self.low >= limit_per_h else Verdict.OPEN


def growth(readings: Sequence[Reading]) -> Growth:
    """Of readings in the order of time (Theil and Sen: the median of the slopes between all pairs of medians).

    Raises `ValueError` where there are none.
    """
    points = medians(readings)
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0]) * 3600 for earlier, later in combinations(points, 2)
    )
    first_mb, last_mb, span_s = points[0][1], points[-1][1], readings[-1][0] - readings[0][0]
    if span_s < SHORTEST_S:
        return Growth(first_mb, last_mb, median(slopes or [0.0]), -inf, inf)
    per_h = median(slopes)
    low, high = _interval(slopes, len(points), alike(points, per_h))
    unseen = GRAIN_MB / (span_s / 3600)
    return Growth(first_mb, last_mb, per_h, low - unseen, high + unseen)


def medians(readings: Sequence[Reading]) -> list[Reading]:
    """Of each stretch of time in which there is a reading: its middle and the median of its readings."""
    start_s, end_s = readings[0][0], readings[-1][0]
    width_s = (end_s - start_s) / BINS or 1.0
    binned: dict[int, list[float]] = {}
    for at_s, mb in readings:
        binned.setdefault(min(BINS - 1, int((at_s - start_s) / width_s)), []).append(mb)
    return [(start_s + (number + 0.5) * width_s, median(found)) for number, found in sorted(binned.items())]


def alike(points: Sequence[Reading], per_h: float) -> float:
    """How much what is left beside the line resembles what was left before it: from 0 to `MOST_ALIKE`."""
    beside = [mb - per_h * at_s / 3600 for at_s, mb in points]
    middle = fmean(beside)
    spread = sum((one - middle) ** 2 for one in beside)
    if spread == 0:
        return 0.0
    shared = sum((one - middle) * (following - middle) for one, following in pairwise(beside)) / spread
    return min(MOST_ALIKE, max(0.0, shared))


def _interval(slopes: Sequence[float], count: int, share: float) -> tuple[float, float]:
    """Sen's, of sorted slopes; readings that resemble their neighbours count as fewer."""
    variance = count * (count - 1) * (2 * count + 5) / 18 * (1 + share) / (1 - share)
    beyond = (len(slopes) - Z * sqrt(variance)) / 2
    if beyond < 1:
        return -inf, inf
    return slopes[int(beyond) - 1], slopes[-int(beyond)]
