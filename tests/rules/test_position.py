"""Position rules: impossible speed, geofence, moved with the engine off, outside permitted hours."""

from datetime import datetime, timedelta
from math import cos, pi, radians

import pytest
from msgspec.structs import replace

from telemetry_svc.rules.distances import distance_m
from telemetry_svc.telemetry import Geofence, MachineStatus, PermittedHours, Position, Reading
from tests.rules.machines import Run, anomaly_data, machine, policy, reading, utc

T0 = utc("2026-11-22 04:20:31")
LATITUDE, LONGITUDE = 28.228, 112.939
M_PER_DEGREE = 6_371_008.8 * pi / 180
WEEKDAYS = (PermittedHours(("mon", "tue", "wed", "thu", "fri"), "08:00", "18:00"),)
NIGHT = (PermittedHours(("sun",), "20:00", "04:00"),)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def fix(minutes: float, north_m: float = 0, east_m: float = 0, running: bool | None = None) -> Reading:
    position = Position(LATITUDE + north_m / M_PER_DEGREE, LONGITUDE + east_m / M_PER_DEGREE / cos(radians(LATITUDE)))
    return reading(at(minutes), position=position, engine_running=running)


def nowhere(minutes: float) -> Reading:
    return reading(at(minutes), position=Position(0.0, 0.0))


def words(run: Run, *readings: Reading) -> list[str]:
    return [one.removeprefix("position ") for one in run.read(*readings)]


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([fix(0), fix(1, 2_499)], [], id="just under 150 km/h"),
        pytest.param([fix(0), fix(1, 2_501)], ["speed opened"], id="just over 150 km/h"),
        pytest.param([fix(0), fix(1, 0, 2_501)], ["speed opened"], id="eastwards too"),
        pytest.param([fix(0), fix(1, 3_000), fix(2, 5_376)], ["speed opened"], id="142.56 km/h is not slow enough"),
        pytest.param([fix(0), fix(1, 3_000), fix(2, 5_374)], ["speed opened", "speed cleared"], id="142.44 km/h is"),
        pytest.param([fix(0), fix(1, 3_000), fix(2, 3_000)], ["speed opened", "speed cleared"], id="standing"),
        pytest.param([fix(0), nowhere(1), fix(2, 100)], [], id="0,0 is no fix"),
        pytest.param([fix(5), fix(4, 9_000), fix(6, 100)], [], id="a late fix is history"),
        pytest.param([fix(0), fix(0, 9_000)], [], id="two fixes of one instant have no speed"),
        pytest.param([fix(0), fix(0.5 / 60, 30)], ["speed opened"], id="216 km/h between fixes half a second apart"),
        pytest.param([fix(0), fix(0.5 / 60, 19)], [], id="137 km/h"),
    ],
)
def test_speed(readings: list[Reading], wanted: list[str]) -> None:
    assert words(Run(), *readings) == wanted


def test_the_speed_episode_is_named_by_the_second_fix() -> None:
    run = Run()
    run.read(fix(-1), fix(0, 9_000))
    assert run.events[0].subject == "speed@2026-11-22T04:20:31.000Z"
    assert anomaly_data(run.events[0]).rule == "speed"
    assert anomaly_data(run.events[0]).severity == "warning"
    assert anomaly_data(run.events[0]).measured == {"speed_kmh": 540.0, "distance_m": 9000}


def test_speed_and_fence_at_exactly_their_limits() -> None:
    there = fix(1, 2_600).ping.position
    assert there is not None
    metres = distance_m(LATITUDE, LONGITUDE, there.latitude_deg, there.longitude_deg)
    kmh = metres / 60 / (1 / 3.6)
    fence = Geofence(LATITUDE, LONGITUDE, metres)
    exact = replace(policy(), speed=replace(policy().speed, over_kmh=kmh, clears_at_kmh=kmh / 2))
    assert words(Run(machine(geofence=fence), exact), fix(0), fix(1, 2_600)) == []
    slow = replace(policy(), speed=replace(policy().speed, over_kmh=kmh / 2, clears_at_kmh=kmh))
    assert words(Run(policy=slow), fix(-1, -9_000), fix(0), fix(1, 2_600)) == ["speed opened", "speed cleared"]
    half = replace(policy(), geofence=replace(policy().geofence, clears_at_ratio=0.5))
    around = Run(machine(geofence=replace(fence, radius_m=2 * metres)), half)
    assert words(around, fix(0, 9_000), fix(60, 2_600)) == ["geofence opened", "geofence cleared"]


def test_speed_and_geofence_across_the_equator_and_greenwich() -> None:
    run = Run(machine(geofence=Geofence(-0.02, -0.02, 4_000)))
    positions = [Position(0.02, -0.02), Position(-0.02, -0.02), Position(-0.02, 0.02)]
    readings = [reading(at(n), position=one) for n, one in enumerate(positions)]
    assert words(run, *readings) == ["geofence opened", "speed opened", "geofence cleared", "geofence opened"]


def test_speed_across_greenwich() -> None:
    """2.8 km in a minute, from 0.02 degrees west to 0.02 degrees east."""
    run = Run()
    west, east = Position(51.0, -0.02), Position(51.0, 0.02)
    assert words(run, reading(at(0), position=west), reading(at(1), position=east)) == ["speed opened"]


def test_a_fix_on_the_equator_is_a_fix() -> None:
    run = Run(machine(geofence=Geofence(0.1, 112.9, 1_000)))
    assert words(run, reading(at(0), position=Position(0.0, 112.9))) == ["geofence opened"]
    run = Run(machine(geofence=Geofence(51.0, 0.1, 1_000)))
    assert words(run, reading(at(0), position=Position(51.0, 0.0))) == ["geofence opened"]


def test_what_the_end_of_an_episode_tells() -> None:
    run = Run(machine(geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    assert words(run, fix(0), fix(1, 2_557), fix(2, 500)) == [
        "speed opened",
        "geofence opened",
        "speed cleared",
        "geofence cleared",
    ]
    told = [(event.time, anomaly_data(event).severity, anomaly_data(event).measured) for event in run.events]
    assert told == [
        (at(1), "warning", {"speed_kmh": 153.4, "distance_m": 2_557}),
        (at(1), "general", {"distance_m": 2_557, "radius_m": 1_000}),
        (at(2), "warning", {"speed_kmh": 123.4, "distance_m": 2_057}),
        (at(2), "general", {"distance_m": 500, "radius_m": 1_000}),
    ]


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([fix(0, 999)], [], id="inside"),
        pytest.param([fix(0, 1_001)], ["geofence opened"], id="outside"),
        pytest.param([fix(0, 1_001), fix(5, 951)], ["geofence opened"], id="inside, but not 0.95 of the radius"),
        pytest.param([fix(0, 1_001), fix(5, 949)], ["geofence opened", "geofence cleared"], id="well inside"),
        pytest.param([fix(0, 0, 1_001)], ["geofence opened"], id="eastwards"),
        pytest.param([nowhere(0)], [], id="0,0 is no fix"),
        pytest.param([fix(1), fix(0, 5_000)], [], id="a late fix is history"),
        pytest.param([fix(1), fix(1, 5_000)], ["geofence opened"], id="another one of the same instant is not late"),
    ],
)
def test_geofence(readings: list[Reading], wanted: list[str]) -> None:
    run = Run(machine(geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    assert words(run, *readings) == wanted


def test_the_geofence_id_is_the_contracts() -> None:
    run = Run(machine(geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    run.read(fix(0, 2_000))
    assert str(run.events[0].id) == "fcd790e2-9910-5947-ba13-144573f142e1"
    assert anomaly_data(run.events[0]).severity == "general"


def test_a_geofence_taken_away_clears_its_episode() -> None:
    run = Run(machine(geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    run.read(fix(0, 2_000))
    assert run.change(at(5), geofence=None) == ["position geofence cleared"]
    assert (run.events[-1].time, anomaly_data(run.events[-1]).severity) == (at(5), "general")
    assert words(run, fix(6, 2_000)) == []
    assert run.change(at(7)) == []
    assert words(run, fix(8, 2_000)) == ["geofence opened"], "another one, with the fence set up again"


def test_another_geofence_does_not_clear_the_episode() -> None:
    run = Run(machine(geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    run.read(fix(0, 2_000))
    assert run.change(at(5), geofence=Geofence(LATITUDE, LONGITUDE, 1_500)) == []
    assert words(run, fix(6, 1_400)) == ["geofence cleared"]


OFF_OPEN, OFF_CLEAR = "engine_off_movement opened", "engine_off_movement cleared"


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([fix(0, running=False), fix(5, 499)], [], id="499 m"),
        pytest.param([fix(0, running=False), fix(5, 501)], [OFF_OPEN], id="501 m"),
        pytest.param([fix(0, running=True), fix(5, 501)], [], id="engine on"),
        pytest.param([fix(0), fix(5, 501)], [], id="engine never reported"),
        pytest.param(
            [fix(0), reading(at(1), engine_running=False), fix(5, 501)],
            [OFF_OPEN],
            id="the fix before the report",
        ),
        pytest.param(
            [fix(0, running=False), fix(5, 300, running=False), fix(9, 501, running=False)],
            [OFF_OPEN],
            id="reporting off again moves no anchor",
        ),
        pytest.param([reading(at(0), engine_running=False), fix(5), fix(9, 501)], [], id="no fix before: no anchor"),
        pytest.param(
            [fix(0, running=False), fix(5, 600), fix(6, 600, running=True)],
            [OFF_OPEN, OFF_CLEAR],
            id="engine on",
        ),
        pytest.param(
            [fix(0, running=False), fix(5, 600), reading(at(6), engine_running=True)],
            [OFF_OPEN, OFF_CLEAR],
            id="engine on without a fix",
        ),
        pytest.param([fix(0, running=False), fix(5, 600), fix(34.9, 620)], [OFF_OPEN], id="29.9 min in one place"),
        pytest.param([fix(0, running=False), fix(5, 600), fix(35, 640)], [OFF_OPEN, OFF_CLEAR], id="30 min: it stands"),
        pytest.param(
            [fix(0, running=False), fix(5, 600), fix(20, 660), fix(35, 660)], [OFF_OPEN], id="60 m on: another stay"
        ),
        pytest.param(
            [fix(0, running=False), fix(5, 600), fix(35, 600), fix(40, 0), fix(45, 90)],
            [OFF_OPEN, OFF_CLEAR, OFF_OPEN],
            id="the new place is the new anchor",
        ),
        pytest.param(
            [fix(0, running=False), fix(10, 400), fix(40, 400), fix(45, 800)], [], id="creeping: arrived in between"
        ),
        pytest.param([fix(0, running=False), nowhere(5), fix(6, 100)], [], id="0,0 is no fix"),
        pytest.param([fix(9, running=False), fix(5, 600)], [], id="a late fix"),
        pytest.param(
            [fix(9, running=True), reading(at(5), engine_running=False), fix(12, 600)],
            [],
            id="a late report",
        ),
    ],
)
def test_moved_with_the_engine_off(readings: list[Reading], wanted: list[str]) -> None:
    assert words(Run(), *readings) == wanted


def test_moved_at_night_is_outside_hours_instead() -> None:
    """T0 is Sunday 12:20 in China, outside the weekdays' hours."""
    friday = -2 * 24 * 60
    run = Run(machine(permitted_hours=WEEKDAYS))
    assert words(run, fix(friday), fix(friday + 339, 0, running=False)) == [], "17:59 on Friday"
    assert words(run, fix(0, 499), fix(5, 499)) == []
    assert words(run, fix(6, 501)) == ["outside_hours opened"]
    opened = run.one("position outside_hours opened")
    assert (opened.time, anomaly_data(opened).severity) == (at(6), "major")
    begins_at = utc("2026-11-23 00:00")
    assert run.state.next_check_at == begins_at
    assert run.tick(begins_at - timedelta(seconds=1)) == []
    assert run.tick(begins_at) == ["position outside_hours cleared"]
    assert run.one("position outside_hours cleared").time == begins_at


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([fix(0, 600, running=True)], ["outside_hours opened"], id="engine on or off"),
        pytest.param([fix(0, 600), fix(30, 600)], ["outside_hours opened", "outside_hours cleared"], id="it stands"),
        pytest.param(
            [fix(0, 600), fix(1_300, 9_000)],
            ["outside_hours opened", "outside_hours cleared"],
            id="Monday 10:00",
        ),
    ],
)
def test_outside_hours(readings: list[Reading], wanted: list[str]) -> None:
    friday = -2 * 24 * 60
    run = Run(machine(permitted_hours=WEEKDAYS))
    run.read(fix(friday))
    assert words(run, *readings) == wanted


def test_a_window_across_midnight() -> None:
    run = Run(machine(permitted_hours=NIGHT))
    sunday_19, sunday_21, monday_3, monday_5 = 400, 520, 880, 1_000
    assert words(run, fix(sunday_19), fix(sunday_21, 5_000), fix(monday_3, 9_000)) == []
    assert words(run, fix(monday_5, 9_501)) == ["outside_hours opened"], "the anchor is the last fix inside, at 03:00"


def test_permitted_hours_taken_away_clear_the_episode() -> None:
    run = Run(machine(permitted_hours=WEEKDAYS))
    run.read(fix(-2 * 24 * 60), fix(0, 600))
    assert run.change(at(5), permitted_hours=()) == ["position outside_hours cleared"]
    assert run.state.next_check_at is None


def test_retired_ends_open_episodes_without_an_event() -> None:
    run = Run(machine(geofence=Geofence(LATITUDE, LONGITUDE, 1_000)))
    run.read(fix(0, running=False), fix(5, 3_000))
    assert len(run.events) == 3 - 1
    run.change(at(6), status=MachineStatus.RETIRED)
    assert words(run, fix(7), fix(50)) == []
    run.change(at(60))
    assert words(run, fix(61), fix(100)) == []


def test_retired_ends_a_speed_episode_too() -> None:
    run = Run()
    assert words(run, fix(0), fix(1, 3_000)) == ["speed opened"]
    run.change(at(2), status=MachineStatus.RETIRED)
    run.change(at(3))
    assert words(run, fix(4, 12_000)) == ["speed opened"]
