"""Sensor values outside their band for long enough (policy.md, anomalies "sensor …").

An episode opens after an unbroken run of readings beyond the threshold and closes only behind a second one
(hysteresis), so that a value that trembles at the limit is one episode. Each field has its own time: a reading
older than the one that decided its present state is history.
"""

from datetime import datetime, timedelta
from math import inf
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.facts import Finding, Phase
from telemetry_svc.telemetry import Ping

VERSION = 1

Field = Literal["coolant_temperature_c", "oil_pressure_kpa", "fuel_level_pct", "battery_v"]
FIELDS: tuple[Field, ...] = ("coolant_temperature_c", "oil_pressure_kpa", "fuel_level_pct", "battery_v")


class SensorBlock(Struct, frozen=True):
    """Beyond `over` or under `under` for `lasting`; closes at or behind `clears_at`. One of the two is infinite."""

    field: Field
    clears_at: float
    lasting: timedelta
    severity: Severity
    over: float = inf
    under: float = -inf
    engine_running_only: bool = False
    call: bool = False

    def is_beyond(self, value: float) -> bool:
        return value > self.over or value < self.under

    def is_back(self, value: float) -> bool:
        return value <= self.clears_at if self.over < inf else value >= self.clears_at


class SensorsBlock(Struct, frozen=True):
    """`bands_…`: for each of `FIELDS` the values between which nothing is to be judged (`bands_of`)."""

    sensors: tuple[SensorBlock, ...]
    bands_running: tuple[tuple[float, float], ...]
    bands_stopped: tuple[tuple[float, float], ...]
    enabled: bool = True


def bands_of(sensors: tuple[SensorBlock, ...], *, engine_running: bool) -> tuple[tuple[float, float], ...]:
    """Kept beside the rules of the fields, so that an ordinary ping compares four values and asks nothing else."""
    by_field = {one.field: (one.under, one.over) for one in sensors if engine_running or not one.engine_running_only}
    return tuple(by_field.get(field, (-inf, inf)) for field in FIELDS)


class SensorRun(Struct, frozen=True, omit_defaults=True, gc=False):
    """Readings beyond the threshold since `first_at`; `is_open`: the episode was opened."""

    field: Field
    first_at: datetime
    is_open: bool = False


class SensorsState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`decided_at`: of each of `FIELDS` the reading that decided its present state; `newest_at`: the latest of them.

    `runs`: of the fields that are beyond their threshold, or not yet back behind it.
    """

    decided_at: tuple[datetime | None, ...] = (None, None, None, None)
    newest_at: datetime | None = None
    runs: tuple[SensorRun, ...] = ()


Result = tuple[SensorsState, tuple[Finding, ...]]


def read(block: SensorsBlock, state: SensorsState, ping: Ping, *, engine_running: bool | None) -> Result:
    """One ping that is not *future*; the engine as last reported, by this ping or before it."""
    sensors, newest_at = ping.sensors, state.newest_at
    if state.runs or not block.enabled:
        return _judged(block, state, ping, engine_running) if block.enabled else (state, ())
    if sensors is None:
        return state, ()
    at = ping.recorded_at
    if newest_at is not None and at < newest_at:
        return _judged(block, state, ping, engine_running)
    before, bands = state.decided_at, block.bands_running if engine_running else block.bands_stopped
    coolant_c, oil_kpa = sensors.coolant_temperature_c, sensors.oil_pressure_kpa
    fuel_pct, battery_v = sensors.fuel_level_pct, sensors.battery_v
    if (  # written out: this is asked per ping
        (coolant_c is None or bands[0][0] <= coolant_c <= bands[0][1])
        and (oil_kpa is None or bands[1][0] <= oil_kpa <= bands[1][1])
        and (fuel_pct is None or bands[2][0] <= fuel_pct <= bands[2][1])
        and (battery_v is None or bands[3][0] <= battery_v <= bands[3][1])
    ):
        decided_at = (
            before[0] if coolant_c is None else at,
            before[1] if oil_kpa is None else at,
            before[2] if fuel_pct is None else at,
            before[3] if battery_v is None else at,
        )
        return SensorsState(decided_at, at), ()
    return _judged(block, state, ping, engine_running)


def _judged(block: SensorsBlock, state: SensorsState, ping: Ping, engine_running: bool | None) -> Result:
    """Field by field, where something is beyond its threshold, running, or late."""
    at = ping.recorded_at
    decided_at = dict(zip(FIELDS, state.decided_at, strict=True))
    runs = {run.field: run for run in state.runs}
    findings = []
    for one in block.sensors:
        value = None if ping.sensors is None else getattr(ping.sensors, one.field)
        stops = one.engine_running_only and ping.engine_running is False and one.field in runs
        before = decided_at[one.field]
        if (value is None and not stops) or (before is not None and at < before):
            continue
        decided_at[one.field] = at
        run, phase = _next(one, runs.pop(one.field, None), value, at, engine_running)
        if phase is not None:
            findings.append(_finding(one, run, phase, at, value))
        if run is not None and phase != "cleared":
            runs[one.field] = run
    newest_at = at if state.newest_at is None else max(at, state.newest_at)
    times = tuple(decided_at[field] for field in FIELDS)
    return SensorsState(times, newest_at, tuple(runs.values())), tuple(findings)


def _next(
    one: SensorBlock, run: SensorRun | None, value: float | None, at: datetime, engine_running: bool | None
) -> tuple[SensorRun | None, Phase | None]:
    """What follows of one field: the run it is in (the one that ends with *cleared*, too) and the edge, if any."""
    is_off = one.engine_running_only and engine_running is not True
    if run is not None and run.is_open:
        is_over = (one.engine_running_only and engine_running is False) or (value is not None and one.is_back(value))
        return run, "cleared" if is_over else None
    if is_off or value is None or not one.is_beyond(value):
        return None, None
    run = run or SensorRun(one.field, at)
    if at - run.first_at < one.lasting:
        return run, None
    return replace(run, is_open=True), "opened"


def _finding(one: SensorBlock, run: SensorRun | None, phase: Phase, at: datetime, value: float | None) -> Finding:
    return Finding(
        kind="sensor",
        phase=phase,
        opened_at=at if run is None else run.first_at,
        severity=one.severity,
        time=at,
        version=VERSION,
        rule=one.field,
        code=one.field,
        measured={one.field: value},
    )
