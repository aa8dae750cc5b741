"""Sensors: threshold, duration and hysteresis at both sides; the engine as last reported; one unbroken run."""

from datetime import datetime, timedelta
from math import inf

import pytest
from msgspec.structs import replace

from telemetry_svc.events import Evidence
from telemetry_svc.rules import step
from telemetry_svc.rules.sensors import bands_of
from telemetry_svc.telemetry import Reading, Sensors
from tests.rules.machines import Run, anomaly_data, policy, reading, utc

T0 = utc("2026-11-22 04:20:31")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def values(seconds: float, running: bool | None = None, **fields: float) -> Reading:
    return reading(at(seconds), sensors=Sensors(**fields), engine_running=running)


def hot(seconds: float, value: float = 106) -> Reading:
    return values(seconds, coolant_temperature_c=value)


def oil(seconds: float, value: float = 50, running: bool | None = None) -> Reading:
    return values(seconds, running, oil_pressure_kpa=value)


def phases(*readings: Reading) -> list[str]:
    run = Run()
    run.read(*readings)
    return [event.stage for event in run.events]


OPENED, BOTH = ["opened"], ["opened", "cleared"]


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([hot(0, 105), hot(60, 105)], [], id="105 is inside"),
        pytest.param([hot(0, 105.01), hot(59.999, 105.01)], [], id="not yet 60 s"),
        pytest.param([hot(0, 105.01), hot(60, 105.01)], OPENED, id="for 60 s"),
        pytest.param([hot(0), hot(30, 105), hot(60)], [], id="a run that was broken"),
        pytest.param([hot(0), reading(at(30), 5), hot(60)], OPENED, id="a ping without the field breaks nothing"),
        pytest.param([hot(0), values(30, fuel_level_pct=50), hot(60)], OPENED, id="nor one with other fields"),
        pytest.param([hot(0), hot(60), hot(70, 99.76)], OPENED, id="99.76 is not back"),
        pytest.param([hot(0), hot(60), hot(70, 99.75)], BOTH, id="99.75 is back"),
        pytest.param([hot(0), hot(60), hot(70, 104), hot(80), hot(200)], OPENED, id="trembling is one episode"),
        pytest.param([hot(0), hot(60), hot(59, 80)], OPENED, id="a late reading changes nothing"),
        pytest.param([hot(0), hot(60), hot(60, 80)], BOTH, id="one of the same instant is not late"),
        pytest.param([hot(100, 80), hot(0), hot(60)], [], id="late readings open nothing"),
        pytest.param([oil(0), oil(30)], [], id="oil: engine never reported is not running"),
        pytest.param([oil(0, running=True), oil(29.999)], [], id="oil: not yet 30 s"),
        pytest.param([oil(0, running=True), oil(30)], OPENED, id="oil: engine as last reported"),
        pytest.param([oil(0, 100, running=True), oil(30, 100)], [], id="oil: 100 is inside"),
        pytest.param([oil(0, running=False), oil(30)], [], id="oil: engine off"),
        pytest.param([oil(0, running=True), oil(30), oil(40, 104.99)], OPENED, id="oil: 104.99 is not back"),
        pytest.param([oil(0, running=True), oil(30), oil(40, 105)], BOTH, id="oil: 105 is back"),
        pytest.param([oil(0, running=True), oil(30), oil(40, 20, running=False)], BOTH, id="oil: engine off closes"),
        pytest.param(
            [oil(0, running=True), oil(30), reading(at(40), engine_running=False)],
            BOTH,
            id="oil: off alone",
        ),
        pytest.param(
            [values(100, True, coolant_temperature_c=90), oil(50, running=False), oil(80, running=False)],
            [],
            id="oil: the engine as a late ping itself reports it",
        ),
        pytest.param([oil(0, running=True), reading(at(20), engine_running=False), oil(30)], [], id="oil: off breaks"),
        pytest.param([values(0, battery_v=22.99), values(599.999, battery_v=22.99)], [], id="battery: not yet 10 min"),
        pytest.param([values(0, battery_v=22.99), values(600, battery_v=22.99)], OPENED, id="battery: 10 min"),
        pytest.param([values(0, battery_v=23.0), values(600, battery_v=23.0)], [], id="battery: 23.0 is inside"),
        pytest.param(
            [values(0, battery_v=20), values(600, battery_v=20), values(700, battery_v=24.14)],
            OPENED,
            id="24.14 V",
        ),
        pytest.param(
            [values(0, battery_v=20), values(600, battery_v=20), values(700, battery_v=24.15)],
            BOTH,
            id="24.15 V",
        ),
        pytest.param([values(0, fuel_level_pct=10)], [], id="fuel: 10 is inside"),
        pytest.param([values(0, fuel_level_pct=9.99)], OPENED, id="fuel: at once"),
        pytest.param([oil(0, running=True), reading(at(10), 5), oil(30)], OPENED, id="oil: a ping without it"),
        pytest.param(
            [values(n, coolant_temperature_c=105, fuel_level_pct=10, battery_v=22) for n in (0, 60)],
            [],
            id="105 and 10 are inside while another value is not",
        ),
        pytest.param(
            [values(n, fuel_level_pct=pct) for n, pct in enumerate((9, 11, 11, 9))],
            [*BOTH, "opened"],
            id="fuel: low again is another episode",
        ),
        pytest.param([values(0, fuel_level_pct=9), values(1, fuel_level_pct=10.49)], OPENED, id="fuel: 10.49"),
        pytest.param([values(0, fuel_level_pct=9), values(1, fuel_level_pct=10.5)], BOTH, id="fuel: 10.5"),
    ],
)
def test_thresholds(readings: list[Reading], wanted: list[str]) -> None:
    assert phases(*readings) == wanted


def test_the_episode_is_named_by_the_first_reading_of_the_run_and_dated_by_the_deciding_one() -> None:
    run = Run()
    run.read(hot(0), hot(61, 107))
    event = run.events[0]
    assert str(event.id) == "f42e0a9f-5c10-5dd7-a85d-334a98889947"
    assert event.time == at(61)
    data = anomaly_data(event)
    assert (data.kind, data.rule, data.severity) == ("sensor", "coolant_temperature_c", "critical")
    assert data.recorded_at == at(61)
    assert data.measured == {"coolant_temperature_c": 107}
    assert [one.recorded_at for one in event.evidence] == [at(0), at(61)]
    assert [one.values for one in event.evidence] == [{}, {"coolant_temperature_c": 107}]


def test_what_opens_at_once_has_one_reading_as_its_evidence() -> None:
    run = Run()
    run.read(values(0, fuel_level_pct=9.99))
    assert run.events[0].evidence == (Evidence(at(0), {"fuel_level_pct": 9.99}),)


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"coolant_temperature_c": 110.0}, "critical"),
        ({"oil_pressure_kpa": 10.0}, "critical"),
        ({"battery_v": 20.0}, "warning"),
        ({"fuel_level_pct": 1.0}, "warning"),
    ],
)
def test_severities(fields: dict[str, float], severity: str) -> None:
    run = Run()
    run.read(values(0, True, **fields), values(600, True, **fields))
    assert [anomaly_data(event).severity for event in run.events] == [severity]


BEYOND = {"coolant_temperature_c": 110.0, "oil_pressure_kpa": 10.0, "battery_v": 20.0, "fuel_level_pct": 1.0}
ORDINARY = {"coolant_temperature_c": 90.0, "oil_pressure_kpa": 300.0, "battery_v": 25.0, "fuel_level_pct": 50.0}
EACH_FIELD = pytest.mark.parametrize("name", list(BEYOND))


def only(name: str, of: dict[str, float]) -> dict[str, float]:
    return {name: of[name]}


def all_but(name: str, of: dict[str, float]) -> dict[str, float]:
    return {one: value for one, value in of.items() if one != name}


@EACH_FIELD
def test_the_time_of_a_field_is_not_that_of_the_others(name: str) -> None:
    run = Run()
    assert run.read(values(9_000, True, **all_but(name, ORDINARY))) == []
    assert run.read(values(0, None, **only(name, BEYOND)), values(600, None, **only(name, BEYOND))) == [
        f"sensor {name} opened"
    ]


@EACH_FIELD
def test_a_late_reading_of_a_field_is_history_whatever_the_others_said_since(name: str) -> None:
    run = Run()
    run.read(values(5_000, True, **only(name, ORDINARY)), values(9_000, True, **all_but(name, ORDINARY)))
    assert run.read(values(0, None, **only(name, BEYOND)), values(600, None, **only(name, BEYOND))) == []


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([hot(900, 90), hot(100, 90)], id="ordinary ones"),
        pytest.param([hot(900), hot(910, 90), hot(100, 90)], id="after a run that was broken"),
        pytest.param([hot(900, 90), hot(100), hot(110, 90)], id="a late one beyond the threshold"),
    ],
)
def test_a_late_reading_does_not_make_way_for_other_late_ones(before: list[Reading]) -> None:
    assert phases(*before, hot(200), hot(800)) == []


def test_a_rule_that_is_switched_off_says_nothing() -> None:
    off = replace(policy(), sensors=replace(policy().sensors, enabled=False))
    run = Run(policy=off)
    assert run.read(values(0, fuel_level_pct=1), hot(0), hot(60)) == []
    opened = Run()
    opened.read(hot(0), hot(60))
    assert step(off, opened.state, hot(70, 80)).events == ()


def test_the_bands_between_which_nothing_is_judged_are_the_thresholds() -> None:
    """In the order coolant, oil, fuel, battery; the oil pressure of a standing engine is nothing."""
    sensors = policy().sensors.sensors
    running, stopped = bands_of(sensors, engine_running=True), bands_of(sensors, engine_running=False)
    assert list(running) == [(-inf, 105), (100, inf), (10, inf), (23, inf)]
    assert list(stopped) == [(-inf, 105), (-inf, inf), (10, inf), (23, inf)]
    assert (policy().sensors.bands_running, policy().sensors.bands_stopped) == (running, stopped)


def test_future_readings_take_no_part() -> None:
    run = Run()
    future = reading(at(60), sensors=Sensors(coolant_temperature_c=120), received_at=at(-600))
    assert run.read(hot(0), future) == []
    assert run.state.sensors.runs[0].first_at == at(0)
