"""Distances between fixes on a sphere (WGS 84 mean radius, IUGG: 6 371 008.8 m); good to 0.5 %, as GPS rules need.

`M_PER_DEGREE` answers most questions of a standing or slowly moving machine without trigonometry: an arc is never
longer than its part along the meridian and the same part along the equator together.
"""

from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_M = 6_371_008.8
M_PER_DEGREE = EARTH_RADIUS_M * radians(1) * 1.000_001
"""Of latitude, and the most of longitude; a hair long, so that "surely within" holds after rounding."""


def distance_m(
    latitude_deg: float, longitude_deg: float, other_latitude_deg: float, other_longitude_deg: float
) -> float:
    """Great-circle distance (haversine), in metres."""
    phi, other_phi = radians(latitude_deg), radians(other_latitude_deg)
    half_phi, half_lambda = (other_phi - phi) / 2, radians(other_longitude_deg - longitude_deg) / 2
    chord = sin(half_phi) ** 2 + cos(phi) * cos(other_phi) * sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(chord)))
