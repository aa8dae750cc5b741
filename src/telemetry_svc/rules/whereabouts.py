"""Whether the engine runs and where the machine is, as last reported, and the rules that need both.

The engine is as last reported, and never reported is neither on nor off (policy.md, "What abnormal means"); a
report or a fix older than the last one changes nothing.
"""

from datetime import datetime

from msgspec import Struct

from telemetry_svc.rules import movement, position
from telemetry_svc.rules.facts import Finding
from telemetry_svc.rules.movement import MovementState
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.position import PositionState, is_nowhere
from telemetry_svc.telemetry import Machine, Ping


class Whereabouts(Struct, frozen=True, omit_defaults=True, gc=False):
    """`engine_running` `None`: never reported."""

    engine_running: bool | None = None
    engine_at: datetime | None = None
    position: PositionState = PositionState()
    movement: MovementState = movement.AT_REST


Result = tuple[Whereabouts, tuple[Finding, ...]]


def read(policy: Policy, state: Whereabouts, machine: Machine, ping: Ping) -> Result:
    """One ping that is not *future*."""
    at, place, moved = ping.recorded_at, state.position, state.movement
    running, engine_at = state.engine_running, state.engine_at
    findings: tuple[Finding, ...] = ()
    fix = ping.position
    if fix is not None and ((place.fix_at is not None and at < place.fix_at) or is_nowhere(fix)):
        fix = None
    reported = ping.engine_running
    if reported is not None and (engine_at is None or at >= engine_at):
        if reported is not running:
            moved, findings = movement.engine_reported(policy.movement, moved, place, fix, at, running=reported)
        running, engine_at = reported, at
    if fix is not None:
        before = place
        place, found = position.read(policy.speed, policy.geofence, place, machine.geofence, at, fix)
        if machine.permitted_hours or running is not True or moved.stay is not None:
            moved, more = movement.read(policy.movement, moved, machine, before, at, fix, engine_running=running)
            found += more
        findings += found
    return Whereabouts(running, engine_at, place, moved), findings


def changed(policy: Policy, state: Whereabouts, before: Machine, after: Machine, at: datetime) -> Result:
    """The machine's geofence, permitted hours or zone may be others now."""
    place, moved, findings = state.position, state.movement, tuple[Finding, ...]()
    if before.geofence is not None and after.geofence is None:
        place, findings = position.unfenced(policy.geofence, place, at)
    if (before.permitted_hours, before.time_zone) != (after.permitted_hours, after.time_zone):
        moved, more = movement.changed(policy.movement, moved, after, at)
        findings += more
    return Whereabouts(state.engine_running, state.engine_at, place, moved), findings


def ended(state: Whereabouts) -> Whereabouts:
    """Every open episode ends without a word."""
    return Whereabouts(
        state.engine_running, state.engine_at, position.ended(state.position), movement.ended(state.movement)
    )
