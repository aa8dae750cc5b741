"""Machines moved without leave, beyond the tables of test_position: anchors and stays over time, and what is told."""

from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_svc.rules.distances import distance_m
from telemetry_svc.telemetry import Geofence, MachineStatus, PermittedHours, Position, Reading
from tests.rules.machines import Run, anomaly_data, machine, policy, reading, utc
from tests.rules.test_position import LATITUDE, LONGITUDE, OFF_CLEAR, OFF_OPEN, WEEKDAYS, at, fix, words

FRIDAY = -2 * 24 * 60  # 12:20 in China; at(0) is Sunday 12:20
OUT_OPEN, OUT_CLEAR = "outside_hours opened", "outside_hours cleared"
EARLY = (PermittedHours(("mon", "tue", "wed", "thu", "fri"), "06:00", "18:00"),)
EVERY_DAY = (PermittedHours(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), "08:00", "18:00"),)
MONDAY_8 = utc("2026-11-23 00:00")


def at_place(minutes: float, latitude_deg: float, longitude_deg: float, running: bool | None = None) -> Reading:
    return reading(at(minutes), position=Position(latitude_deg, longitude_deg), engine_running=running)


def on_weekdays(*readings: Reading) -> Run:
    """A machine with the weekdays' hours, last seen on Friday noon."""
    run = Run(machine(permitted_hours=WEEKDAYS))
    assert words(run, fix(FRIDAY), *readings) == []
    return run


def moved_on_sunday() -> Run:
    run = on_weekdays()
    assert words(run, fix(0, 600)) == [OUT_OPEN]
    return run


def change(run: Run, minutes: float, **fields: Any) -> list[str]:
    run.machine = replace(run.machine, **fields)
    return [one.removeprefix("position ") for one in run.change(at(minutes))]


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([fix(0, running=False), fix(5, 400, 400)], [OFF_OPEN], id="north-east: 566 m"),
        pytest.param([fix(0, running=False), fix(5, 400, 250)], [], id="north-east: 472 m"),
        pytest.param(
            [at_place(0, 0.004, 0.004, running=False), at_place(5, -0.004, 0.004)], [OFF_OPEN], id="across the equator"
        ),
        pytest.param(
            [at_place(0, 51.48, 0.008, running=False), at_place(5, 51.48, -0.008)], [OFF_OPEN], id="across Greenwich"
        ),
        pytest.param(
            [fix(0, running=False), fix(5, 600), fix(6, 600, running=True), fix(7, 600, running=False), fix(8, 1_200)],
            [OFF_OPEN, OFF_CLEAR, OFF_OPEN],
            id="switched off again elsewhere, and moved again",
        ),
        pytest.param(
            [fix(0, running=False), fix(1, running=True), fix(2, 40, running=False), fix(31, 40), fix(32, 520)],
            [],
            id="a stay ends when the engine starts: 29 min are no new anchor",
        ),
        pytest.param(
            [fix(0, running=False), fix(30), fix(31, 40, running=True), fix(32, 40, running=False), fix(33, 530)],
            [],
            id="the anchor is where it was switched off last",
        ),
        pytest.param(
            [fix(0, running=True), reading(at(0), engine_running=False), fix(5, 501)],
            [OFF_OPEN],
            id="a report of the same instant counts",
        ),
    ],
)
def test_moved_with_the_engine_off(readings: list[Reading], wanted: list[str]) -> None:
    assert words(Run(), *readings) == wanted


def test_exactly_the_distance_is_not_more_than_it() -> None:
    there = fix(5, 501).ping.position
    assert there is not None
    metres = distance_m(LATITUDE, LONGITUDE, there.latitude_deg, there.longitude_deg)
    exact = replace(policy(), movement=replace(policy().movement, over_m=metres))
    assert words(Run(policy=exact), fix(0, running=False), fix(5, 501)) == []
    under = replace(policy(), movement=replace(policy().movement, over_m=metres - 1e-6))
    assert words(Run(policy=under), fix(0, running=False), fix(5, 501)) == [OFF_OPEN]


def test_what_is_told_of_a_machine_moved_with_the_engine_off() -> None:
    run = Run()
    run.read(fix(0, running=False), fix(5, 501), fix(6, 501, running=True))
    opened, cleared = map(anomaly_data, run.events)
    assert (opened.kind, opened.rule, opened.severity, opened.measured) == (
        "position",
        "engine_off_movement",
        "general",
        {"distance_m": 501},
    )
    assert (cleared.rule, cleared.severity, cleared.measured) == ("engine_off_movement", "general", {})
    assert [event.time for event in run.events] == [at(5), at(6)]
    assert {event.subject for event in run.events} == {"engine_off_movement@2026-11-22T04:25:31.000Z"}


def test_what_is_told_of_a_machine_moved_outside_its_hours() -> None:
    run = moved_on_sunday()
    run.read(fix(30, 600))
    opened, cleared = map(anomaly_data, run.events)
    assert (opened.kind, opened.rule, opened.severity, opened.measured) == (
        "position",
        "outside_hours",
        "major",
        {"distance_m": 600},
    )
    assert (cleared.rule, cleared.severity, cleared.measured) == ("outside_hours", "major", {})
    assert [event.time for event in run.events] == [at(0), at(30)]
    assert {event.subject for event in run.events} == {"outside_hours@2026-11-22T04:20:31.000Z"}


def test_a_stay_with_the_engine_off_is_dated_by_the_fix_that_ends_it() -> None:
    run = Run()
    run.read(fix(0, running=False), fix(5, 600), fix(36, 600))
    assert run.one("position engine_off_movement cleared").time == at(36)


def test_where_it_stood_outside_its_hours_is_the_new_anchor() -> None:
    run = moved_on_sunday()
    assert words(run, fix(30, 600), fix(31, 1_000)) == [OUT_CLEAR]
    assert words(run, fix(32, 1_101)) == [OUT_OPEN]


def test_the_first_instant_after_its_hours_is_outside() -> None:
    run = on_weekdays(fix(FRIDAY + 300))
    ended = utc("2026-11-20 10:00")
    there = fix(0, 600).ping.position
    assert [one for one in run.read(reading(ended, position=there)) if "outside" in one] == [
        "position outside_hours opened"
    ]


def test_after_the_clock_has_closed_it_the_next_evening_is_another_episode() -> None:
    run = moved_on_sunday()
    assert run.tick(MONDAY_8) == ["position outside_hours cleared"]
    monday_noon, monday_night = 24 * 60, 24 * 60 + 600
    assert words(run, fix(monday_noon, 600), fix(monday_night, 1_300)) == [OUT_OPEN]


def test_the_clock_says_nothing_of_a_machine_that_was_not_moved() -> None:
    run = on_weekdays(fix(0, 100))
    assert run.state.next_check_at is None
    assert run.tick(MONDAY_8) == []
    run.read(fix(60, 100), fix(3 * 24 * 60, 100), fix(3 * 24 * 60 + 1, 100))
    assert run.tick(utc("2027-01-01")) == [f"silence {at(3 * 24 * 60 + 1):%Y-%m-%dT%H:%M:%S}.000Z opened"]


def test_other_hours_that_are_still_not_now_keep_it_open_until_they_begin() -> None:
    run = moved_on_sunday()
    assert change(run, 5, permitted_hours=EARLY) == []
    begins_at = utc("2026-11-22 22:00")
    assert run.state.next_check_at == begins_at
    assert run.tick(begins_at) == ["position outside_hours cleared"]
    assert run.events[-1].time == begins_at


def test_other_hours_that_are_now_close_it() -> None:
    run = moved_on_sunday()
    assert change(run, 5, permitted_hours=EVERY_DAY) == [OUT_CLEAR]
    assert run.events[-1].time == at(5)
    assert run.state.next_check_at is None
    assert words(run, fix(6, 600), fix(700, 1_300)) == [OUT_OPEN], "another one, in the evening"


def test_a_change_of_hours_without_an_open_episode_says_nothing() -> None:
    run = on_weekdays(fix(0, 100))
    assert change(run, 5, permitted_hours=EVERY_DAY) == []
    assert words(run, fix(6, 200)) == []


def test_an_anchor_of_former_hours_is_none_of_the_new_ones() -> None:
    run = on_weekdays(fix(0, 100))
    assert change(run, 5, permitted_hours=()) == []
    assert change(run, 6, permitted_hours=WEEKDAYS) == []
    assert words(run, fix(7, 900)) == [], "no fix inside the new hours is known"


def test_a_fix_of_the_former_hours_is_no_anchor_either() -> None:
    run = moved_on_sunday()
    assert change(run, 5, permitted_hours=EVERY_DAY) == [OUT_CLEAR]
    assert words(run, fix(700, 1_300)) == [], "evening; there was no fix in the new hours"


def test_fence_and_hours_taken_away_together_clear_both() -> None:
    run = Run(machine(permitted_hours=WEEKDAYS, geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    assert words(run, fix(FRIDAY), fix(0, 2_000)) == ["geofence opened", OUT_OPEN]
    assert change(run, 5, permitted_hours=(), geofence=None) == ["geofence cleared", OUT_CLEAR]
    assert {event.time for event in run.events[-2:]} == {at(5)}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([{"customer_id": "C-2"}], id="another customer"),
        pytest.param([{"status": MachineStatus.RETIRED}, {"status": MachineStatus.ACTIVE}], id="retired and back"),
    ],
)
def test_a_change_forgets_neither_the_engine_nor_its_anchor(fields: list[dict[str, Any]]) -> None:
    run = Run()
    run.read(fix(0, running=True), fix(9, running=False))
    for one in fields:
        assert change(run, 10, **one) == []
    assert words(run, reading(at(8), engine_running=True)) == [], "late"
    assert words(run, fix(12, 501)) == [OFF_OPEN]


def test_a_retired_machine_was_not_moved_outside_its_hours_either() -> None:
    run = moved_on_sunday()
    assert change(run, 5, status=MachineStatus.RETIRED) == []
    assert change(run, 6, status=MachineStatus.ACTIVE) == []
    assert run.state.next_check_at is None
    assert words(run, fix(7, 1_300)) == [OUT_OPEN], "moved again: another episode"
