"""Units that would be lost in a bare number.

Hour meters are kept as whole hundredths of an hour (centihours, suffix `_ch`): contract.md says that hours are whole
hundredths and that further decimals are cut, so integers compare exactly at every milestone (249.99 < 250.00) where
floats would not.
"""

from typing import NewType

Centihours = NewType("Centihours", int)

CENTIHOURS_PER_HOUR = 100


def centihours(hours_h: int) -> Centihours:
    """Whole hours (as milestones and limits are written in a policy) as centihours."""
    return Centihours(hours_h * CENTIHOURS_PER_HOUR)


def hours_from(value_ch: Centihours | int) -> float:
    """Centihours as the hours that people and messages read: 24 990 → 249.9."""
    return value_ch / CENTIHOURS_PER_HOUR
