"""Units that would be lost in a bare number, and the one way in which a moment is written.

Hour meters are kept as whole hundredths of an hour (centihours, suffix `_ch`): contract.md says that hours are whole
hundredths and that further decimals are cut, so integers compare exactly at every milestone (249.99 < 250.00) where
floats would not. A moment in an id must be written alike by whoever decides the same fact again; writing it asks no
clock, so the rules may use it and may not know `clock`.
"""

from datetime import UTC, datetime
from typing import NewType

Centihours = NewType("Centihours", int)

CENTIHOURS_PER_HOUR = 100


def centihours(hours_h: int) -> Centihours:
    """Whole hours (as milestones and limits are written in a policy) as centihours."""
    return Centihours(hours_h * CENTIHOURS_PER_HOUR)


def hours_from(value_ch: Centihours | int) -> float:
    """Centihours as the hours that people and messages read: 24 990 → 249.9."""
    return value_ch / CENTIHOURS_PER_HOUR


def rfc3339_ms(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC with milliseconds, as ids and headers carry it: 2026-11-22T04:20:31.000Z.

    Anything finer than a millisecond is cut, as contract.md (Ping v1) says.
    """
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
