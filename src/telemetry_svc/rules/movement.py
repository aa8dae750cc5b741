"""Machines moved without leave (policy.md, anomalies position `engine_off_movement` and `outside_hours`).

Both measure from an anchor: where the engine was switched off, or the last fix inside permitted hours. A machine
that stands in a new place for a while has arrived: that place is the new anchor, and what was open closes.
"""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.distances import M_PER_DEGREE, distance_m
from telemetry_svc.rules.facts import Finding, Phase
from telemetry_svc.rules.permitted_hours import Span, span_at
from telemetry_svc.rules.position import PositionState
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import Machine, Position

VERSION = 1
ENGINE_OFF, OUTSIDE_HOURS = "engine_off_movement", "outside_hours"


class MovementRule(Struct, frozen=True):
    severity: Severity
    enabled: bool = True
    call: bool = False


class MovementBlock(Struct, frozen=True):
    """More than `over_m` from the anchor; *stands* = `stands_for` within `stands_within_m` of the stay's first fix."""

    over_m: float
    stands_for: timedelta
    stands_within_m: float
    engine_off_movement: MovementRule
    outside_hours: MovementRule


class Place(Struct, frozen=True, array_like=True, gc=False):
    """Where, and since when."""

    at: datetime
    latitude_deg: float
    longitude_deg: float

    def is_near(self, fix: Position, limit_m: float) -> bool:
        """At most `limit_m` away; without trigonometry where the machine has hardly moved."""
        along_deg = abs(self.latitude_deg - fix.latitude_deg) + abs(self.longitude_deg - fix.longitude_deg)
        return along_deg * M_PER_DEGREE <= limit_m or self.metres_to(fix) <= limit_m

    def metres_to(self, fix: Position) -> float:
        return distance_m(self.latitude_deg, self.longitude_deg, fix.latitude_deg, fix.longitude_deg)


class MovementState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`stay`: the first fix of the present stay; `span`: whether now is inside permitted hours, `None` without any."""

    engine_anchor: Place | None = None
    hours_anchor: Place | None = None
    stay: Place | None = None
    span: Span | None = None
    moved_opened_at: datetime | None = None
    outside_opened_at: datetime | None = None

    @property
    def next_at(self) -> datetime:
        """When permitted hours begin for a machine that was moved outside them."""
        return NEVER if self.outside_opened_at is None or self.span is None else self.span.until


Result = tuple[MovementState, tuple[Finding, ...]]
AT_REST = MovementState()


def engine_reported(
    block: MovementBlock,
    state: MovementState,
    last: PositionState,
    fix: Position | None,
    at: datetime,
    *,
    running: bool,
) -> Result:
    """The engine was switched on or off, as this ping reports; `fix`: the ping's own, `last`: the one before it."""
    if not running:
        return replace(state, engine_anchor=_place(last, fix, at)), ()
    findings: tuple[Finding, ...] = ()
    if state.moved_opened_at is not None:
        findings = (_finding(block, ENGINE_OFF, "cleared", state.moved_opened_at, at),)
    return replace(state, engine_anchor=None, moved_opened_at=None), findings


def _place(last: PositionState, fix: Position | None, at: datetime) -> Place | None:
    if fix is not None:
        return Place(at, fix.latitude_deg, fix.longitude_deg)
    return None if last.fix_at is None else Place(last.fix_at, last.latitude_deg, last.longitude_deg)


def read(
    block: MovementBlock,
    state: MovementState,
    machine: Machine,
    last: PositionState,
    at: datetime,
    fix: Position,
    *,
    engine_running: bool | None,
) -> Result:
    """One fix that counts; `last` is the one before it."""
    if machine.permitted_hours:
        state = _in_span(state, machine, last, at)
    is_outside = state.span is not None and not state.span.inside
    if not is_outside and engine_running is not False:
        return (state if state.stay is None else replace(state, stay=None)), ()
    stay = state.stay
    if stay is None or not stay.is_near(fix, block.stands_within_m):
        stay = Place(at, fix.latitude_deg, fix.longitude_deg)
        state = replace(state, stay=stay)
    if at - stay.at >= block.stands_for:
        return _stands(block, state, stay, at, engine_running=engine_running)
    return _moved(block, state, at, fix, engine_running=engine_running)


def _in_span(state: MovementState, machine: Machine, last: PositionState, at: datetime) -> MovementState:
    """With the span of permitted hours that this fix lies in, and, where they have just ended, the anchor."""
    before = state.span
    if before is not None and at < before.until:
        return state
    span = span_at(machine, at)
    if before is None or not before.inside or span.inside:
        return replace(state, span=span)
    return replace(state, span=span, hours_anchor=_place(last, None, at))


def _stands(
    block: MovementBlock, state: MovementState, stay: Place, at: datetime, *, engine_running: bool | None
) -> Result:
    """It has arrived: the first fix of the stay is the new anchor, what was open closes."""
    is_outside = state.span is not None and not state.span.inside
    engine_anchor = stay if engine_running is False else state.engine_anchor
    hours_anchor = stay if is_outside else state.hours_anchor
    if engine_anchor is state.engine_anchor and hours_anchor is state.hours_anchor:
        return state, ()  # it has stood here for a while
    findings = []
    if state.moved_opened_at is not None:
        findings.append(_finding(block, ENGINE_OFF, "cleared", state.moved_opened_at, at))
    if state.outside_opened_at is not None:
        findings.append(_finding(block, OUTSIDE_HOURS, "cleared", state.outside_opened_at, at))
    after = replace(
        state,
        engine_anchor=engine_anchor,
        hours_anchor=hours_anchor,
        moved_opened_at=None,
        outside_opened_at=None,
    )
    return after, tuple(findings)


def _moved(
    block: MovementBlock, state: MovementState, at: datetime, fix: Position, *, engine_running: bool | None
) -> Result:
    """Too far from the anchor of the one rule or the other."""
    if state.span is None or state.span.inside:
        rule, anchor, opened_at = block.engine_off_movement, state.engine_anchor, state.moved_opened_at
        if engine_running is False and rule.enabled and opened_at is None and _is_away(block, anchor, fix):
            opened = _finding(block, ENGINE_OFF, "opened", at, at, anchor, fix)
            return replace(state, moved_opened_at=at), (opened,)
        return state, ()
    rule, anchor, opened_at = block.outside_hours, state.hours_anchor, state.outside_opened_at
    if rule.enabled and opened_at is None and _is_away(block, anchor, fix):
        opened = _finding(block, OUTSIDE_HOURS, "opened", at, at, anchor, fix)
        return replace(state, outside_opened_at=at), (opened,)
    return state, ()


def _is_away(block: MovementBlock, anchor: Place | None, fix: Position) -> bool:
    return anchor is not None and not anchor.is_near(fix, block.over_m)


def by_clock(block: MovementBlock, state: MovementState, machine: Machine, at: datetime) -> Result:
    """Permitted hours begin: what was moved outside them closes at that moment."""
    while state.outside_opened_at is not None and state.span is not None and at >= state.span.until:
        begins_at = state.span.until
        span = span_at(machine, begins_at)
        if span.inside:
            cleared = _finding(block, OUTSIDE_HOURS, "cleared", state.outside_opened_at, begins_at)
            return replace(state, outside_opened_at=None, span=None), (cleared,)
        state = replace(state, span=span)
    return state, ()


def changed(block: MovementBlock, state: MovementState, machine: Machine, at: datetime) -> Result:
    """Other permitted hours or another zone from `at` on; an anchor of the former hours is none of the new ones."""
    span = span_at(machine, at) if machine.permitted_hours and state.outside_opened_at is not None else None
    after = replace(state, span=span, hours_anchor=None)
    if state.outside_opened_at is None or (span is not None and not span.inside):
        return after, ()
    cleared = _finding(block, OUTSIDE_HOURS, "cleared", state.outside_opened_at, at)
    return replace(after, outside_opened_at=None, span=None), (cleared,)


def ended(state: MovementState) -> MovementState:
    """Without a word."""
    return replace(state, moved_opened_at=None, outside_opened_at=None)


def _finding(
    block: MovementBlock,
    rule: str,
    phase: Phase,
    opened_at: datetime,
    time: datetime,
    anchor: Place | None = None,
    fix: Position | None = None,
) -> Finding:
    severity = block.engine_off_movement.severity if rule == ENGINE_OFF else block.outside_hours.severity
    measured: dict[str, float | int | str | None] = {}
    if anchor is not None and fix is not None:
        measured = {"distance_m": round(anchor.metres_to(fix))}
    return Finding("position", phase, opened_at, severity, time, VERSION, rule, code=rule, measured=measured)
