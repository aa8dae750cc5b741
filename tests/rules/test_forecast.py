"""The forecast of an inspection from the machine's own usage: a robust trend over 30 days, none when it rests."""

from datetime import timedelta

import pytest

from tests.rules.machines import Run, due_data, machine, reading, utc

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
    assert len(run.state.maintenance.usage.points) <= 31


def test_a_reading_at_midnight_is_the_first_of_its_day() -> None:
    run = Run(machine(initial_h=260))
    run.read(*(reading(utc(at), 261) for at in ("2026-03-02 23:59:59", "2026-03-03", "2026-03-03 00:00:01")))
    assert [point.at for point in run.state.maintenance.usage.points] == [utc("2026-03-02 23:59:59"), utc("2026-03-03")]
