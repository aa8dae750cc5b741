"""A machine that has stopped sending (policy.md, anomaly "silence").

Judged by the broker's clock alone (`received_at`), so that a wrong device clock neither hides nor invents a
silence; any new ping counts, a late or future one too. `check_at` is moved lazily: a ping leaves it where it is,
the tick that comes then finds the newer ping and moves it, so that an ordinary ping writes nothing that the store
has indexed.
"""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.facts import Finding
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import MachineStatus, Reading

VERSION = 1


class SilenceBlock(Struct, frozen=True):
    """Silent `after` the last ping, once at least `min_pings` have come over at least `min_span`."""

    after: timedelta
    min_pings: int
    min_span: timedelta
    severity: Severity
    enabled: bool = True


class SilenceState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`last_*`: the last ping by `received_at`; `counts_from`: a later instant at which counting began anew.

    `opened_at`: the `recorded_at` of the last ping before an open silence.
    """

    pings: int = 0
    first_received_at: datetime | None = None
    last_received_at: datetime | None = None
    last_recorded_at: datetime | None = None
    check_at: datetime = NEVER
    counts_from: datetime | None = None
    opened_at: datetime | None = None


def read(
    block: SilenceBlock, state: SilenceState, reading: Reading, status: MachineStatus
) -> tuple[SilenceState, tuple[Finding, ...]]:
    """Any new ping: it ends an open silence, and silence is counted from it."""
    received_at, recorded_at = reading.received_at, reading.ping.recorded_at
    first, last = state.first_received_at, state.last_received_at
    if first is None or last is None:
        return SilenceState(1, received_at, received_at, recorded_at, NEVER, state.counts_from), ()
    if received_at < last:  # a dead letter taken up again; the last ping stays the last
        received_at, recorded_at = last, state.last_recorded_at or recorded_at
    pings = state.pings + 1 if state.pings < block.min_pings else state.pings
    after = SilenceState(pings, first, received_at, recorded_at, state.check_at, state.counts_from)
    if after.check_at == NEVER:
        after = _armed(block, after, status)
    if state.opened_at is None:
        return after, ()
    return after, (_finding(block, state.opened_at, "cleared", reading.received_at, state),)


def _armed(block: SilenceBlock, state: SilenceState, status: MachineStatus) -> SilenceState:
    """With `check_at` where silence would begin, if this machine can be silent at all."""
    first, last = state.first_received_at, state.last_received_at
    if not block.enabled or status is not MachineStatus.ACTIVE or first is None or last is None:
        return state
    if state.pings < block.min_pings or last - first < block.min_span:
        return state
    return replace(state, check_at=_begins_at(block, state, last))


def _begins_at(block: SilenceBlock, state: SilenceState, last: datetime) -> datetime:
    return max(last, state.counts_from or last) + block.after


def by_clock(block: SilenceBlock, state: SilenceState, at: datetime) -> tuple[SilenceState, tuple[Finding, ...]]:
    """The broker's clock stands at `at`: silent, or checked again later."""
    last, opened_at = state.last_received_at, state.last_recorded_at
    if at < state.check_at or last is None or opened_at is None or not block.enabled:
        return state, ()
    begins_at = _begins_at(block, state, last)
    if at < begins_at:
        return replace(state, check_at=begins_at), ()
    opened = replace(state, check_at=NEVER, opened_at=opened_at)
    return opened, (_finding(block, opened_at, "opened", begins_at, state),)


def changed(
    block: SilenceBlock, state: SilenceState, before: MachineStatus, after: MachineStatus, at: datetime
) -> SilenceState:
    """A stored or retired machine is not silent: an open silence ends without a word; on the way back counting
    begins.
    """
    if before is after:
        return state
    still = replace(state, check_at=NEVER, opened_at=None)
    if after is not MachineStatus.ACTIVE:
        return still
    return _armed(block, replace(still, counts_from=at), after)


def _finding(
    block: SilenceBlock, opened_at: datetime, phase: Literal["opened", "cleared"], time: datetime, state: SilenceState
) -> Finding:
    silent_h = None if state.last_received_at is None else (time - state.last_received_at) / timedelta(hours=1)
    return Finding(
        kind="silence",
        phase=phase,
        opened_at=opened_at,
        severity=block.severity,
        time=time,
        version=VERSION,
        measured={"silent_h": None if silent_h is None else round(silent_h, 2)},
    )
