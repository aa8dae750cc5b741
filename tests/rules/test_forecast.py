"""The forecast of an inspection from the machine's own usage: a robust trend over 30 days, none when it rests."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from telemetry_svc.rules.usage import ForecastBlock, UsageState, due_at, observed
from telemetry_svc.rules.zone_time import NEVER
from tests.rules.machines import Run, ch, due_data, machine, policy, reading, utc

BLOCK = policy().inspections.forecast
DAY_0 = utc("2026-03-02 06:00")


def worked(hours_per_day: list[float], initial_h: float) -> Run:
    """A reading every evening; `hours_per_day` since the first one."""
    run = Run(machine(initial_h=initial_h))
    total_h = initial_h
    run.read(reading(DAY_0, total_h))
    for day, hours_h in enumerate(hours_per_day, 1):
        total_h += hours_h
        run.read(reading(DAY_0 + timedelta(days=day), round(total_h, 2)))
    return run


def upcoming_at(run: Run) -> float:
    hours_h = due_data(run.one("inspection 500 upcoming")).true_hours_h
    assert hours_h is not None
    return hours_h


@pytest.mark.parametrize(
    ("hours_per_day", "initial_h", "first_h"),
    [
        pytest.param([10] * 25, 260, 430, id="10 h a day: 70 h are seven days"),
        pytest.param([20] * 14, 260, 380, id="20 h a day: as soon as seven days are known"),
        pytest.param([5] * 45, 260, 450, id="5 h a day: 35 h, so the lead of 50 h comes first"),
        pytest.param(([12] * 5 + [0, 0]) * 4, 260, 440, id="five days of 12 h a week: a median of the weeks"),
        pytest.param([10] * 12 + [24] + [10] * 12, 260, 434, id="one long day bends nothing"),
    ],
)
def test_upcoming_by_the_forecast_or_the_lead_whichever_comes_first(
    hours_per_day: list[float], initial_h: float, first_h: float
) -> None:
    run = worked(hours_per_day, initial_h)
    assert upcoming_at(run) == pytest.approx(first_h, abs=10)


def test_the_event_tells_when_it_will_be_due() -> None:
    run = worked([10] * 25, 260)
    event = run.one("inspection 500 upcoming")
    data = due_data(event)
    assert data.true_hours_h == 430
    assert event.time == DAY_0 + timedelta(days=17)
    assert data.forecast_due_at == event.time + timedelta(days=7)
    assert data.recorded_at == event.time


def test_just_over_seven_days_is_not_yet() -> None:
    run = worked([10] * 16, 269.99)
    assert run.words == []
    assert run.read(reading(DAY_0 + timedelta(days=16, hours=1), 430.0)) == ["inspection 500 upcoming"]


@pytest.mark.parametrize(
    ("hours_per_day", "initial_h"),
    [
        pytest.param([0] * 20, 440, id="it has never worked"),
        pytest.param([20] * 4 + [0] * 8, 300, id="it rests now"),
        pytest.param([20] * 5, 340, id="six days are no trend yet"),
    ],
)
def test_no_forecast(hours_per_day: list[float], initial_h: float) -> None:
    run = worked(hours_per_day, initial_h)
    assert run.state.maintenance.usage.per_day_ch == 0
    assert "inspection 500 upcoming" not in run.words


def test_a_machine_without_a_trend_is_announced_by_its_lead_without_a_date() -> None:
    run = Run(machine(initial_h=260))
    run.read(reading(DAY_0, 455))
    assert due_data(run.one("inspection 500 upcoming")).forecast_due_at is None


def test_the_clock_alone_judges_no_forecast() -> None:
    run = worked([10] * 16, 260)
    assert run.state.next_check_at is not None, "silence"
    assert [one for one in run.tick(DAY_0 + timedelta(days=60)) if "inspection" in one] == []


def test_what_is_remembered_is_bounded() -> None:
    run = worked([1] * 100, 260)
    assert len(run.state.maintenance.usage.points) == 31, "the first of 30 days before, too"


def test_a_reading_at_midnight_is_the_first_of_its_day() -> None:
    run = Run(machine(initial_h=260))
    run.read(*(reading(utc(at), 261) for at in ("2026-03-02 23:59:59", "2026-03-03", "2026-03-03 00:00:01")))
    assert [point.at for point in run.state.maintenance.usage.points] == [utc("2026-03-02 23:59:59"), utc("2026-03-03")]


def seen(*hours_h: float, block: ForecastBlock = BLOCK) -> UsageState:
    """One reading a day."""
    state = UsageState()
    for day, value_h in enumerate(hours_h):
        state = observed(block, state, DAY_0 + timedelta(days=day), ch(value_h))
    return state


@pytest.mark.parametrize(
    ("last_three_h", "rests"),
    [
        pytest.param((0, 0, 0), True, id="three days without an hour"),
        pytest.param((0, 0.2, 0.29), True, id="0.29 h in three days: less than 0.1 h a day"),
        pytest.param((0, 0.2, 0.30), False, id="0.30 h"),
        pytest.param((0, 0, 5), False, id="it works again"),
    ],
)
def test_a_machine_rests_by_its_last_three_days(last_three_h: tuple[float, ...], rests: bool) -> None:
    worked_h = [20 * day for day in range(9)]
    state = seen(*worked_h, *(160 + more_h for more_h in last_three_h))
    assert (state.per_day_ch == 0) is rests


@pytest.mark.parametrize(
    ("daily_h", "trend_ch"), [pytest.param(0.1, 10, id="0.10 h a day"), pytest.param(0.09, 0, id="0.09 h a day: rest")]
)
def test_the_least_trend(daily_h: float, trend_ch: float) -> None:
    assert seen(*(round(daily_h * day, 2) for day in range(10))).per_day_ch == trend_ch


def test_a_trend_of_fewer_days_than_a_rest() -> None:
    assert seen(0, 10, block=replace(BLOCK, min_days=2)).per_day_ch == 1_000


def test_a_date_is_told_only_within_the_calendar() -> None:
    at = utc("9990-01-01")
    ahead = (NEVER - at).days - 1
    slow = UsageState(per_day_ch=1.0)
    assert due_at(slow, ahead - 1, at, 0) == at + timedelta(days=ahead - 1)
    assert due_at(slow, ahead, at, 0) is None
    assert due_at(UsageState(per_day_ch=1e-9), 1_000_000, at, 0) is None
    assert due_at(UsageState(), 1_000, at, 0) is None
