"""Distances against the spherical law of cosines, another way to the same arc, and where a longitude is worth less."""

from math import acos, cos, pi, radians, sin

import pytest

from telemetry_svc.rules.distances import EARTH_RADIUS_M, M_PER_DEGREE, distance_m

PLACES = {
    "Changsha": (28.228, 112.939),
    "Tromsø": (69.65, 18.96),
    "São Paulo": (-23.55, -46.63),
    "Fiji, west of the date line": (-17.7, 179.9),
    "Fiji, east of it": (-17.7, -179.9),
    "the pole": (90.0, 0.0),
}


def arc_m(one: tuple[float, float], other: tuple[float, float]) -> float:
    (phi, lam), (other_phi, other_lam) = map(radians, one), map(radians, other)
    return EARTH_RADIUS_M * acos(sin(phi) * sin(other_phi) + cos(phi) * cos(other_phi) * cos(other_lam - lam))


@pytest.mark.parametrize("there", [name for name in PLACES if name != "Changsha"])
def test_far_away(there: str) -> None:
    here = PLACES["Changsha"]
    assert distance_m(*here, *PLACES[there]) == pytest.approx(arc_m(here, PLACES[there]), rel=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        pytest.param((0, 0), (0, 180), pi * EARTH_RADIUS_M, id="half around the equator"),
        pytest.param((0, 0), (0, 90), pi * EARTH_RADIUS_M / 2, id="a quarter"),
        pytest.param((90, 0), (-90, 77), pi * EARTH_RADIUS_M, id="pole to pole"),
        pytest.param((0, 0), (1, 0), 111_195.08, id="a degree of latitude"),
        pytest.param((60, 0), (60, 0.001), 55.597_5, id="a longitude at 60 degrees is worth half"),
        pytest.param((28, 179.999), (28, -179.999), 196.358_857, id="across the date line"),
        pytest.param((28, 113), (28, 113), 0, id="the same place"),
    ],
)
def test_by_hand(one: tuple[float, float], other: tuple[float, float], metres: float) -> None:
    assert distance_m(*one, *other) == pytest.approx(metres, rel=1e-6, abs=1e-6)


def test_a_degree_is_never_shorter_than_its_metres() -> None:
    """So that "surely within" by degrees alone is never wrong."""
    assert distance_m(0, 0, 1, 0) < M_PER_DEGREE < distance_m(0, 0, 1, 0) * 1.000_002
