"""Whole-machine and structural warranty (policy.md, W1 and W2).

Hours or months, whichever first. The months become two instants (the window opens, the cover ends) once at
registration; after that a reading and the clock only compare. Each coverage expires once, however it came about,
and one that ended never ends again.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules.facts import Basis, Fact, Promise, Rank, maintenance_due
from telemetry_svc.rules.inspections import NEVER_CH
from telemetry_svc.rules.zone_time import NEVER, add_months, days_before, midnight, next_day
from telemetry_svc.telemetry import Machine

Coverage = Literal["machine", "structure"]
CLAUSES: dict[Coverage, str] = {"machine": "W1", "structure": "W2"}
VERSION = 1


class CoverBracket(Struct, frozen=True):
    """Limits from this tonnage (inclusive) up to `below_t` (exclusive); `None` = no such limit, both = not covered."""

    from_t: float
    limit_ch: int | None = None
    months: int | None = None
    below_t: float | None = None


class CoverageBlock(Struct, frozen=True):
    brackets: tuple[CoverBracket, ...]
    expiring_before_ch: int
    expiring_before_days: int = 0


class WarrantyBlock(Struct, frozen=True):
    machine: CoverageBlock
    structure: CoverageBlock


class CoverageState(Struct, frozen=True, omit_defaults=True, gc=False):
    """One promise to one machine. `ends_at` is 00:00 of the day after the last covered one."""

    coverage: Coverage
    stage: Literal["covered", "expiring", "expired"] = "covered"
    window_ch: int = NEVER_CH
    limit_ch: int = NEVER_CH
    window_at: datetime = NEVER
    ends_at: datetime = NEVER


def covers(block: WarrantyBlock, machine: Machine, former: tuple[CoverageState, ...] = ()) -> tuple[CoverageState, ...]:
    """The promises to a machine as registered; a stage reached under an earlier registration stays reached."""
    stages = {one.coverage: one.stage for one in former}
    promised = (_cover("machine", block.machine, machine), _cover("structure", block.structure, machine))
    return tuple(replace(one, stage=stages.get(one.coverage, "covered")) for one in promised if one is not None)


def _cover(coverage: Coverage, block: CoverageBlock, machine: Machine) -> CoverageState | None:
    row = bracket(block, machine.tonnage_t)
    if row is None or (row.limit_ch is None and row.months is None):
        return None
    state = CoverageState(coverage)
    if row.limit_ch is not None:
        state = replace(state, limit_ch=row.limit_ch, window_ch=row.limit_ch - block.expiring_before_ch)
    if row.months is None or machine.delivered_on is None:
        return state
    last_day = add_months(machine.delivered_on, row.months)
    return replace(
        state,
        window_at=midnight(days_before(last_day, block.expiring_before_days), machine.time_zone),
        ends_at=midnight(next_day(last_day), machine.time_zone),
    )


def bracket(block: CoverageBlock, tonnage_t: float) -> CoverBracket | None:
    for row in block.brackets:
        if row.from_t <= tonnage_t and (row.below_t is None or tonnage_t < row.below_t):
            return row
    return None


def settle(states: tuple[CoverageState, ...], level_ch: int, at: datetime) -> tuple[CoverageState, ...]:
    """Ended without a word: what the registration itself shows as past."""
    return tuple(
        replace(one, stage="expired") if one.limit_ch <= level_ch or one.ends_at <= at else one for one in states
    )


def next_hours_ch(states: tuple[CoverageState, ...]) -> int:
    """The lowest true hours at which a stage can begin."""
    open_ones = [one for one in states if one.stage != "expired"]
    return min((one.window_ch if one.stage == "covered" else one.limit_ch for one in open_ones), default=NEVER_CH)


def next_at(states: tuple[CoverageState, ...]) -> datetime:
    """The first instant at which a stage can begin by the calendar."""
    open_ones = [one for one in states if one.stage != "expired"]
    return min((one.window_at if one.stage == "covered" else one.ends_at for one in open_ones), default=NEVER)


def by_hours(
    states: tuple[CoverageState, ...], basis: Basis, true_ch: int, time: datetime
) -> tuple[tuple[CoverageState, ...], list[Fact]]:
    facts: list[Fact] = []
    advanced = []
    for one in states:
        after = _stage(one, at_limit=true_ch >= one.limit_ch, in_window=true_ch >= one.window_ch)
        if after.stage != one.stage:
            stands_at_ch = one.limit_ch if after.stage == "expired" else one.window_ch
            facts.append(Fact(stands_at_ch, Rank.WARRANTY, _event(basis, after, time)))
        advanced.append(after)
    return tuple(advanced), facts


def by_clock(
    states: tuple[CoverageState, ...], basis: Basis, at: datetime
) -> tuple[tuple[CoverageState, ...], tuple[Event, ...]]:
    events = []
    advanced = []
    for one in states:
        after = _stage(one, at_limit=at >= one.ends_at, in_window=at >= one.window_at)
        if after.stage != one.stage:
            events.append(_event(basis, after, one.ends_at if after.stage == "expired" else one.window_at))
        advanced.append(after)
    return tuple(advanced), tuple(events)


def _stage(one: CoverageState, *, at_limit: bool, in_window: bool) -> CoverageState:
    if at_limit and one.stage != "expired":
        return replace(one, stage="expired")
    return replace(one, stage="expiring") if in_window and one.stage == "covered" else one


def _event(basis: Basis, one: CoverageState, time: datetime) -> Event:
    stage: Literal["expiring", "expired"] = "expired" if one.stage == "expired" else "expiring"
    promise = Promise("warranty", one.coverage, stage, CLAUSES[one.coverage], time, VERSION, coverage=one.coverage)
    return maintenance_due(basis, promise)


def has_ended(states: tuple[CoverageState, ...], coverage: Coverage = "machine") -> bool:
    return any(one.coverage == coverage and one.stage == "expired" for one in states)
