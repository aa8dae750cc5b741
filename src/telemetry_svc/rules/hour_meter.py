"""From what the hour meter shows to the true hours (policy.md, anomaly "hour meter"; "Readings, order, lateness").

A meter may roll back, leap, wrap or be replaced; the hours that a promise hangs on may not. Readings outside the
physical band are held as suspect and count for nothing until the meter is back inside, has been consistent long
enough to begin a new segment (design.md, decision 6), or an operator decides. True hours = what is shown + the
segment's offset, and never fall. All comparisons are of whole hundredths and milliseconds, so that a limit is
exact.
"""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.facts import Finding
from telemetry_svc.rules.zone_time import midnight
from telemetry_svc.telemetry import Machine, MeterDecision, Ping
from telemetry_svc.units import hours_from

VERSION = 1

_MS = timedelta(milliseconds=1)
_MS_PER_HOUR = 3_600_000


class HourMeterBlock(Struct, frozen=True):
    """The physical band: a fall of at most `rollback_ch`, a rise of at most `max_rate_pct` % of the time +
    `slack_ch`.
    """

    rollback_ch: int
    slack_ch: int
    max_rate_pct: int
    first_slack_ch: int
    segment_readings: int
    segment_after: timedelta
    severity: Severity
    enabled: bool = True


class Held(Struct, frozen=True, omit_defaults=True, gc=False):
    """Suspect readings in a row: the first one, the consistent run at their end, and the last."""

    opened_at: datetime
    run_at: datetime
    run_readings: int
    last_at: datetime
    last_ch: int


class MeterState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`base_*`: the newest accepted reading as shown; `true_ch` `None` before the first.

    `replaced`: an operator announced a new meter; the next reading opens its segment. `rejected_at`: the last reading
    that he dropped; a suspect one that is not newer changes nothing.
    """

    base_at: datetime | None = None
    base_ch: int = 0
    true_ch: int | None = None
    offset_ch: int = 0
    held: Held | None = None
    replaced: bool = False
    rejected_at: datetime | None = None


Result = tuple[MeterState, tuple[Finding, ...], int | None]
"""The state, what opened or closed, and the hours at which a reading stands that counts for milestones."""


def read(block: HourMeterBlock, state: MeterState, machine: Machine, ping: Ping, shown_ch: int) -> Result:
    """One reading that is not *future*."""
    at, base_at = ping.recorded_at, state.base_at
    if base_at is not None and at < base_at:
        return _late(block, state, at, base_at, shown_ch)
    if state.replaced:
        return _segment(state, machine, at, shown_ch), (), None
    if base_at is None:
        plausible = not block.enabled or _fits_as_first(block, machine, at, shown_ch)
    else:
        plausible = not block.enabled or _fits(block, shown_ch - state.base_ch, at, base_at)
    if not plausible:
        return _suspect(block, state, machine, at, shown_ch)
    after = _accepted(state, at, shown_ch)
    if state.held is None or at < state.held.last_at:  # what is older than the last held one does not end its episode
        return after, (), shown_ch + after.offset_ch
    cleared = _finding(block, after, machine, state.held, "cleared", at)
    return replace(after, held=None), (cleared,), shown_ch + after.offset_ch


def _fits(block: HourMeterBlock, rise_ch: int, at: datetime, before: datetime) -> bool:
    """Inside the physical band between two readings."""
    if rise_ch <= block.slack_ch:
        return rise_ch >= -block.rollback_ch
    return not _outruns(rise_ch - block.slack_ch, block.max_rate_pct, at - before)


def _outruns(rise_ch: int, rate_pct: int, duration: timedelta) -> bool:
    """Whether the hours rose by more than `rate_pct` % of the time that passed."""
    return rise_ch * _MS_PER_HOUR > rate_pct * (duration // _MS)


def _fits_as_first(block: HourMeterBlock, machine: Machine, at: datetime, shown_ch: int) -> bool:
    """The first reading is taken as it is, unless the registration itself contradicts it."""
    rise_ch = shown_ch - machine.initial_ch
    if rise_ch < -block.rollback_ch:
        return False
    if machine.delivered_on is None or rise_ch <= block.first_slack_ch:
        return True
    delivered_at = midnight(machine.delivered_on, machine.time_zone)
    return not _outruns(rise_ch - block.first_slack_ch, block.max_rate_pct, at - delivered_at)


def _accepted(state: MeterState, at: datetime, shown_ch: int) -> MeterState:
    hours_ch = shown_ch + state.offset_ch
    true_ch = hours_ch if state.true_ch is None or hours_ch > state.true_ch else state.true_ch
    return MeterState(at, shown_ch, true_ch, state.offset_ch, state.held, rejected_at=state.rejected_at)


def _late(block: HourMeterBlock, state: MeterState, at: datetime, base_at: datetime, shown_ch: int) -> Result:
    """Older than the base: it counts where the two agree; above the true hours it raises them."""
    if block.enabled and not _fits(block, state.base_ch - shown_ch, base_at, at):
        return state, (), None
    hours_ch = shown_ch + state.offset_ch
    if state.true_ch is not None and hours_ch <= state.true_ch:
        return state, (), hours_ch
    return replace(state, true_ch=hours_ch), (), hours_ch


def _suspect(block: HourMeterBlock, state: MeterState, machine: Machine, at: datetime, shown_ch: int) -> Result:
    """Held: it opens the episode, continues it, or, as the last of a consistent run, begins a new segment."""
    held = state.held
    if held is None and state.rejected_at is not None and at <= state.rejected_at:
        return state, (), None
    if held is None:
        opened = Held(at, at, 1, at, shown_ch)
        finding = _finding(block, state, machine, opened, "opened", at)
        return replace(state, held=opened), (finding,), None
    if at < held.last_at:
        return state, (), None
    after = _continued(block, held, at, shown_ch)
    if after.run_readings >= block.segment_readings and at - after.run_at >= block.segment_after:
        return _segment(state, machine, at, shown_ch), (_finding(block, state, machine, after, "cleared", at),), None
    return replace(state, held=after), (), None


def _continued(block: HourMeterBlock, held: Held, at: datetime, shown_ch: int) -> Held:
    if not _fits(block, shown_ch - held.last_ch, at, held.last_at):
        return Held(held.opened_at, at, 1, at, shown_ch)
    another = 1 if at > held.last_at else 0  # readings of one instant are one
    return Held(held.opened_at, held.run_at, held.run_readings + another, at, shown_ch)


def _segment(state: MeterState, machine: Machine, at: datetime, shown_ch: int) -> MeterState:
    """What is shown now stands at the last true hours: they neither fall nor leap."""
    true_ch = machine.initial_ch if state.true_ch is None else state.true_ch
    return MeterState(at, shown_ch, true_ch, true_ch - shown_ch)


def decide(
    block: HourMeterBlock, state: MeterState, machine: Machine, command: MeterDecision
) -> tuple[MeterState, tuple[Finding, ...], datetime | None] | str:
    """An operator's word: the state, what closed and, of `accept`, the time of the reading that may move milestones."""
    held = state.held
    if held is None:
        if command.decision == "replaced":
            return replace(state, replaced=True), (), None
        return f"no reading of the hour meter is held: nothing to {command.decision}"
    closed = (_finding(block, state, machine, held, "cleared", command.received_at),)
    match command.decision:
        case "reject":
            return replace(state, held=None, rejected_at=held.last_at), closed, None
        case "replaced":
            return _segment(state, machine, held.last_at, held.last_ch), closed, None
        case "accept":
            true_ch = held.last_ch + state.offset_ch
            if true_ch < _last_true_ch(state, machine):
                return "the held reading is a rollback: true hours never fall"
            return MeterState(held.last_at, held.last_ch, true_ch, state.offset_ch), closed, held.last_at


def ended(state: MeterState) -> MeterState:
    """Without a word: what was held is dropped."""
    return state if state.held is None else replace(state, held=None)


def _last_true_ch(state: MeterState, machine: Machine) -> int:
    return machine.initial_ch if state.true_ch is None else state.true_ch


def _finding(
    block: HourMeterBlock,
    state: MeterState,
    machine: Machine,
    held: Held,
    phase: Literal["opened", "cleared"],
    time: datetime,
) -> Finding:
    true_ch = _last_true_ch(state, machine)
    return Finding(
        kind="hour_meter",
        phase=phase,
        opened_at=held.opened_at,
        severity=block.severity,
        time=time,
        version=VERSION,
        measured={
            "hour_meter_h": hours_from(held.last_ch),
            "expected_hours_h": hours_from(true_ch - state.offset_ch),
            "true_hours_h": hours_from(true_ch),
        },
    )
