"""Fixes that cannot be or must not be (policy.md, anomalies position `speed` and `geofence`).

Neighbouring fixes too far apart for their time, and fixes outside the machine's radius. Fixes are judged in the
order of their own time; an older one is history, and 0,0 (what receivers send without a fix) is none. `movement.py`
judges the same fixes for machines moved without leave.
"""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.distances import M_PER_DEGREE, distance_m
from telemetry_svc.rules.facts import Finding, Phase
from telemetry_svc.telemetry import Geofence, Position

VERSION = 1

_M_S_PER_KMH = 1 / 3.6


class SpeedBlock(Struct, frozen=True):
    over_kmh: float
    clears_at_kmh: float
    severity: Severity
    enabled: bool = True
    call: bool = False


class GeofenceBlock(Struct, frozen=True):
    """Clears inside `clears_at_ratio` of the radius."""

    clears_at_ratio: float
    severity: Severity
    enabled: bool = True
    call: bool = False


class PositionState(Struct, frozen=True, omit_defaults=True, gc=False):
    """The last fix that counts, and since which fix an episode is open."""

    fix_at: datetime | None = None
    latitude_deg: float = 0.0
    longitude_deg: float = 0.0
    speed_opened_at: datetime | None = None
    geofence_opened_at: datetime | None = None


Result = tuple[PositionState, tuple[Finding, ...]]


def is_nowhere(fix: Position) -> bool:
    """0,0 is what receivers send without a fix."""
    return fix.latitude_deg == 0 and fix.longitude_deg == 0


def read(
    speed: SpeedBlock,
    geofence: GeofenceBlock,
    state: PositionState,
    fence: Geofence | None,
    at: datetime,
    fix: Position,
) -> Result:
    """One fix that counts: not nowhere, and not older than the last one."""
    latitude_deg, longitude_deg = fix.latitude_deg, fix.longitude_deg
    speed_opened_at, fence_opened_at = state.speed_opened_at, state.geofence_opened_at
    findings: tuple[Finding, ...] = ()
    if state.fix_at is not None and at > state.fix_at and speed.enabled:
        along_deg = abs(latitude_deg - state.latitude_deg) + abs(longitude_deg - state.longitude_deg)
        slow_m = speed.clears_at_kmh * _M_S_PER_KMH * (at - state.fix_at).total_seconds()
        if along_deg * M_PER_DEGREE > slow_m or speed_opened_at is not None:
            speed_opened_at, findings = _speed(speed, state, at, fix)
    if fence is not None and geofence.enabled:
        along_deg = abs(latitude_deg - fence.latitude_deg) + abs(longitude_deg - fence.longitude_deg)
        if along_deg * M_PER_DEGREE > fence.radius_m * geofence.clears_at_ratio or fence_opened_at is not None:
            fence_opened_at, found = _geofence(geofence, fence_opened_at, fence, at, fix)
            findings += found
    return PositionState(at, latitude_deg, longitude_deg, speed_opened_at, fence_opened_at), findings


def _speed(
    block: SpeedBlock, state: PositionState, at: datetime, fix: Position
) -> tuple[datetime | None, tuple[Finding, ...]]:
    """The speed between the last fix and this one; its episode is named by the second fix."""
    opened_at, before = state.speed_opened_at, state.fix_at or at
    metres = distance_m(state.latitude_deg, state.longitude_deg, fix.latitude_deg, fix.longitude_deg)
    speed_kmh = metres / (at - before).total_seconds() / _M_S_PER_KMH
    measured = {"speed_kmh": round(speed_kmh, 1), "distance_m": round(metres)}
    if opened_at is None and speed_kmh > block.over_kmh:
        return at, (_finding("speed", "opened", at, at, block.severity, measured),)
    if opened_at is not None and speed_kmh <= block.clears_at_kmh:
        return None, (_finding("speed", "cleared", opened_at, at, block.severity, measured),)
    return opened_at, ()


def _geofence(
    block: GeofenceBlock, opened_at: datetime | None, fence: Geofence, at: datetime, fix: Position
) -> tuple[datetime | None, tuple[Finding, ...]]:
    metres = distance_m(fence.latitude_deg, fence.longitude_deg, fix.latitude_deg, fix.longitude_deg)
    measured = {"distance_m": round(metres), "radius_m": fence.radius_m}
    if opened_at is None and metres > fence.radius_m:
        return at, (_finding("geofence", "opened", at, at, block.severity, measured),)
    if opened_at is not None and metres <= fence.radius_m * block.clears_at_ratio:
        return None, (_finding("geofence", "cleared", opened_at, at, block.severity, measured),)
    return opened_at, ()


def unfenced(block: GeofenceBlock, state: PositionState, at: datetime) -> Result:
    """The machine has no geofence any more: nothing is left to be outside of."""
    if state.geofence_opened_at is None:
        return state, ()
    cleared = _finding("geofence", "cleared", state.geofence_opened_at, at, block.severity, {})
    return replace(state, geofence_opened_at=None), (cleared,)


def ended(state: PositionState) -> PositionState:
    """Without a word."""
    return replace(state, speed_opened_at=None, geofence_opened_at=None)


def _finding(
    rule: str, phase: Phase, opened_at: datetime, time: datetime, severity: Severity, measured: dict[str, float]
) -> Finding:
    return Finding("position", phase, opened_at, severity, time, VERSION, rule, code=rule, measured=dict(measured))
