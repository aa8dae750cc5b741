"""`make soak` judges by these: a leak is seen, a steady process too, and where neither is sure it says so."""

from random import Random

import pytest

from benchmarks.slope import Growth, Reading, Verdict, growth, medians

LIMIT_PER_H = 1.0
EVERY_S = 5


def grows(minutes: int, per_h: float, noise_mb: float = 0.0, step_mb: float = 0.0) -> list[Reading]:
    """A process of 100 MB, read every 5 s; `step_mb`: once, in the middle."""
    noise = Random(f"{minutes}/{per_h}")
    return [
        (at_s, 100 + per_h * at_s / 3600 + noise.gauss(0, noise_mb) + step_mb * (at_s >= minutes * 30))
        for at_s in range(0, minutes * 60, EVERY_S)
    ]


@pytest.mark.parametrize(
    ("readings", "verdict"),
    [
        pytest.param(grows(45, 0.0), Verdict.KEPT, id="steady"),
        pytest.param(grows(45, 0.0, noise_mb=0.1), Verdict.KEPT, id="steady, and noisy"),
        pytest.param(grows(45, 0.5, noise_mb=0.05), Verdict.KEPT, id="half of what is allowed"),
        pytest.param(grows(45, -3.0, noise_mb=0.1), Verdict.KEPT, id="gives back"),
        pytest.param(grows(45, 1.0, noise_mb=0.05), Verdict.OPEN, id="at the limit"),
        pytest.param(grows(45, 2.0, noise_mb=0.1), Verdict.BROKEN, id="a leak"),
        pytest.param(grows(10, 0.0), Verdict.OPEN, id="steady, but too short"),
        pytest.param(grows(10, 2.0), Verdict.OPEN, id="a leak, but too short"),
        pytest.param(grows(10, 60.0), Verdict.OPEN, id="it may still warm up"),
        pytest.param(grows(20, 60.0), Verdict.BROKEN, id="a leak that shows in 20 min"),
        pytest.param(grows(45, 0.0, noise_mb=0.01, step_mb=2.0), Verdict.OPEN, id="one step: growth or not"),
        pytest.param([(0.0, 100.0)], Verdict.OPEN, id="one reading"),
    ],
)
def test_what_is_said_of_a_process(readings: list[Reading], verdict: Verdict) -> None:
    assert growth(readings).verdict(LIMIT_PER_H) is verdict


def test_the_slope_is_that_of_the_process() -> None:
    found = growth(grows(45, 2.0, noise_mb=0.1))
    assert found.per_h == pytest.approx(2.0, abs=0.1)
    assert found.low < 2.0 < found.high
    assert found.last_mb - found.first_mb == pytest.approx(1.5, abs=0.2)


def test_a_peak_of_a_moment_moves_nothing() -> None:
    calm = grows(45, 0.0)
    assert growth([*calm[:100], (calm[100][0], 500.0), *calm[101:]]) == growth(calm)


def test_medians_are_of_equal_stretches() -> None:
    assert medians([(float(at_s), 1.0 if at_s < 300 else 3.0) for at_s in range(601)])[::29] == [
        (10.0, 1.0),
        (590.0, 3.0),
    ]


def test_the_limit_itself_is_not_below_the_limit() -> None:
    assert Growth(100, 101, 1.0, 1.0, 1.0).verdict(LIMIT_PER_H) is Verdict.BROKEN
    assert Growth(100, 101, 0.9, 0.8, 0.99).verdict(LIMIT_PER_H) is Verdict.KEPT
