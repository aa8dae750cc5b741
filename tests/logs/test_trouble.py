"""What fails every second is told once when it begins, once a minute, and once when it is over."""

import pytest
import structlog
from structlog.testing import capture_logs

from telemetry_svc.logs import TOLD_EVERY_S, Trouble
from tests.web.doubles import StillClock

BEGINS = {"log_level": "warning", "event": "no database", "reason": "ConnectionRefusedError"}


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def _trouble(clock: StillClock, calm_s: float = 0.0) -> Trouble:
    return Trouble(structlog.get_logger(), calm_s, clock.monotonic_s)


def _fails(trouble: Trouble, clock: StillClock, *, times: int, every_s: float = 0.5) -> None:
    for _ in range(times):
        trouble.lasts("no database", reason="ConnectionRefusedError")
        clock.move(every_s)


def test_two_failures_a_second_for_two_and_a_half_minutes_are_four_lines(clock: StillClock) -> None:
    trouble = _trouble(clock)
    with capture_logs() as told:
        _fails(trouble, clock, times=301)
        trouble.over(group="telemetry-ingest")
    assert TOLD_EVERY_S == 60
    assert told == [
        BEGINS,
        BEGINS | {"tries": 121, "lasts_s": 60},
        BEGINS | {"tries": 241, "lasts_s": 120},
        {
            "log_level": "warning",
            "event": "over: no database",
            "group": "telemetry-ingest",
            "tries": 301,
            "lasted_s": 150,
        },
    ]


def test_where_all_is_well_nothing_is_told(clock: StillClock) -> None:
    with capture_logs() as told:
        for _ in range(100):
            _trouble(clock).over()
    assert told == []


def test_the_next_trouble_begins_anew(clock: StillClock) -> None:
    trouble = _trouble(clock)
    with capture_logs() as told:
        for _ in range(2):
            _fails(trouble, clock, times=3)
            trouble.over()
            trouble.over()
    over = {"log_level": "warning", "event": "over: no database", "tries": 3, "lasted_s": 1}
    assert told == [BEGINS, over, BEGINS, over]


def test_a_success_in_between_ends_nothing_where_it_proves_nothing(clock: StillClock) -> None:
    trouble = _trouble(clock, calm_s=10)
    with capture_logs() as told:
        for _ in range(4):
            _fails(trouble, clock, times=1, every_s=9.9)
            trouble.over()
        assert told == [BEGINS]
        clock.move(0.1)
        trouble.over()
    assert told[1:] == [{"log_level": "warning", "event": "over: no database", "tries": 4, "lasted_s": 30}]
