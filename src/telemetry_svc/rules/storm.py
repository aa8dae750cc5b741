"""A cap on what one machine may open in a day (policy.md, "Storm of one machine").

Every other rule is unaware of it: their findings pass through here on their way out. Beyond the cap an opening is
counted and not told (critical ones excepted), one storm anomaly stands for them all, and an untold episode shows
only when it becomes critical, as *opened*.
"""

from bisect import bisect_right, insort
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.facts import Finding
from telemetry_svc.rules.zone_time import NEVER

VERSION = 1


class StormBlock(Struct, frozen=True):
    """More than `openings` within `within` is a storm."""

    openings: int
    within: timedelta
    severity: Severity
    enabled: bool = True


class StormState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`times`: the newest openings, told or not, at most one more than the cap; `untold`: episodes open and not told.

    `opened_at`: the `recorded_at` of the first opening that made no event, while the storm lasts.
    """

    times: tuple[datetime, ...] = ()
    untold: tuple[str, ...] = ()
    opened_at: datetime | None = None
    swallowed: int = 0
    clears_at: datetime = NEVER


def sift(
    block: StormBlock, state: StormState, findings: tuple[Finding, ...], recorded_at: datetime | None
) -> tuple[StormState, tuple[Finding, ...]]:
    """What of the findings of one step is told. `recorded_at`: of the reading that decided them."""
    if not block.enabled:
        return state, findings
    told: list[Finding] = []
    for found in findings:
        if found.phase == "opened":
            state, shown = _opening(block, state, found, recorded_at or found.opened_at)
        else:
            state, shown = _later(state, found)
        told.extend(shown)
    return state, tuple(told)


def _opening(
    block: StormBlock, state: StormState, found: Finding, recorded_at: datetime
) -> tuple[StormState, tuple[Finding, ...]]:
    recent = len(state.times) - bisect_right(state.times, found.time - block.within)
    times = list(state.times)
    insort(times, found.time)
    state = replace(state, times=tuple(times[-block.openings - 1 :]))
    if recent < block.openings or found.severity is Severity.CRITICAL:
        return _lasting(block, state), (found,)
    begins = state.opened_at is None
    state = replace(
        state,
        untold=(*state.untold, found.episode),
        swallowed=1 if begins else state.swallowed + 1,
        opened_at=recorded_at if begins else state.opened_at,
    )
    state = _lasting(block, state)
    return state, (_finding(block, state, "opened", found.time),) if begins else ()


def _lasting(block: StormBlock, state: StormState) -> StormState:
    """With the moment at which the last `within` hold no more than the cap; nothing to wait for without a storm."""
    if state.opened_at is None:
        return state
    full = len(state.times) > block.openings
    return replace(state, clears_at=(state.times[-block.openings - 1] if full else state.times[-1]) + block.within)


def _later(state: StormState, found: Finding) -> tuple[StormState, tuple[Finding, ...]]:
    """Worsened or cleared: of an untold episode only the step to critical shows, as its opening."""
    if found.episode not in state.untold:
        return state, (found,)
    is_critical = found.phase == "worsened" and found.severity is Severity.CRITICAL
    if found.phase == "worsened" and not is_critical:
        return state, ()
    state = replace(state, untold=tuple(one for one in state.untold if one != found.episode))
    return state, (replace(found, phase="opened"),) if is_critical else ()


def by_clock(block: StormBlock, state: StormState, at: datetime) -> tuple[StormState, tuple[Finding, ...]]:
    """The storm is over at the moment the last `within` hold no more than the cap."""
    if at < state.clears_at:
        return state, ()
    after = replace(state, opened_at=None, swallowed=0, clears_at=NEVER)
    return after, (_finding(block, state, "cleared", state.clears_at),)


def ended(state: StormState) -> StormState:
    """Without a word, with everything that was untold."""
    return replace(state, untold=(), opened_at=None, swallowed=0, clears_at=NEVER)


def _finding(block: StormBlock, state: StormState, phase: str, time: datetime) -> Finding:
    return Finding(
        kind="storm",
        phase="opened" if phase == "opened" else "cleared",
        opened_at=state.opened_at or time,
        severity=block.severity,
        time=time,
        version=VERSION,
        measured={"swallowed": state.swallowed},
    )
