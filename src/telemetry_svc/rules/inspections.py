"""The 12 inspections by hours (policy.md, I1 and I2; "Inspections done").

A milestone is a level, not an edge: *due* whenever the true hours stand at or over it, so a jump over a milestone,
a late reading or a new hour meter neither misses nor repeats one (design.md, decision 7). Each milestone moves
through its stages once and never back; where it ended (completed, superseded, settled) nothing is ever raised of it
again.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules.facts import Basis, Fact, Promise, Rank, maintenance_due
from telemetry_svc.rules.usage import ForecastBlock, UsageState, due_at, reach_ch
from telemetry_svc.telemetry import InspectionDone

CLAUSE = "I1"
VERSION = 1
NEVER_CH = 2**62
"""More hours than any meter shows: stands for "nothing more can happen by hours"."""


class FreeBracket(Struct, frozen=True):
    """I2: whether labour and mileage are free from this tonnage (inclusive) up to `below_t` (exclusive)."""

    from_t: float
    free: bool
    below_t: float | None = None


class InspectionsBlock(Struct, frozen=True):
    """Milestones in whole hours, ascending; leads and grace in centihours."""

    milestones_h: tuple[int, ...]
    lead_first_ch: int
    lead_ch: int
    overdue_after_ch: int
    free: tuple[FreeBracket, ...]
    forecast: ForecastBlock


Told = Literal["upcoming", "due", "overdue", "completed", "superseded"]
Stage = Told | Literal["ahead", "settled"]
OPEN_STAGES = ("ahead", "upcoming", "due", "overdue")


class Milestone(Struct, frozen=True, array_like=True, gc=False):
    milestone_h: int
    stage: Stage = "ahead"


class InspectionsState(Struct, frozen=True, omit_defaults=True, gc=False):
    """All milestones of the edition, ascending."""

    milestones: tuple[Milestone, ...] = ()


def begin(block: InspectionsBlock) -> InspectionsState:
    return InspectionsState(tuple(Milestone(milestone_h) for milestone_h in block.milestones_h))


def is_free(block: InspectionsBlock, tonnage_t: float) -> bool:
    """I2 by tonnage; the validated brackets cover every tonnage once."""
    return any(
        row.free for row in block.free if row.from_t <= tonnage_t and (row.below_t is None or tonnage_t < row.below_t)
    )


def settle(state: InspectionsState, level_ch: int, overdue_after_ch: int) -> InspectionsState:
    """What stands at or under `level_ch` is past: recorded, silent. One already announced as due stays open."""

    def settled(one: Milestone) -> Milestone:
        if one.stage in ("ahead", "upcoming") and one.milestone_h * 100 <= level_ch:
            return replace(one, stage="settled")
        if one.stage == "due" and one.milestone_h * 100 + overdue_after_ch <= level_ch:
            return replace(one, stage="overdue")
        return one

    return InspectionsState(tuple(map(settled, state.milestones)))


def lead_ch(block: InspectionsBlock, milestone_h: int, usage: UsageState) -> int:
    """How long before a milestone it is upcoming: the policy's lead, or as far as the machine's own trend reaches."""
    lead = block.lead_first_ch if milestone_h == block.milestones_h[0] else block.lead_ch
    return max(lead, reach_ch(block.forecast, usage))


def next_hours_ch(block: InspectionsBlock, state: InspectionsState, usage: UsageState) -> int:
    """The lowest true hours at which a stage can begin."""
    return min((_next_of(block, one, usage) for one in state.milestones), default=NEVER_CH)


def _next_of(block: InspectionsBlock, one: Milestone, usage: UsageState) -> int:
    milestone_ch = one.milestone_h * 100
    match one.stage:
        case "ahead":
            return milestone_ch - lead_ch(block, one.milestone_h, usage)
        case "upcoming":
            return milestone_ch
        case "due":
            return milestone_ch + block.overdue_after_ch
        case _:
            return NEVER_CH


class Passed(Struct, frozen=True):
    """The accepted reading that may move milestones, and the machine's terms and usage at it."""

    true_ch: int
    time: datetime
    usage: UsageState
    free: bool


def by_hours(
    block: InspectionsBlock, state: InspectionsState, basis: Basis, passed: Passed
) -> tuple[InspectionsState, list[Fact]]:
    """Every stage that the true hours of one reading reach, milestone by milestone."""
    facts: list[Fact] = []
    milestones = []
    for one in state.milestones:
        stage: Stage = one.stage
        for reached, stands_at_ch in _reached(block, one, passed):
            facts.append(Fact(stands_at_ch, Rank.INSPECTION, _passing(basis, one.milestone_h, reached, passed)))
            stage = reached
        milestones.append(one if stage == one.stage else Milestone(one.milestone_h, stage))
    return InspectionsState(tuple(milestones)), facts


def _reached(block: InspectionsBlock, one: Milestone, passed: Passed) -> list[tuple[Told, int]]:
    milestone_ch, true_ch = one.milestone_h * 100, passed.true_ch
    overdue_ch = milestone_ch + block.overdue_after_ch
    upcoming_ch = milestone_ch - lead_ch(block, one.milestone_h, passed.usage)
    reached: list[tuple[Told, int]] = []
    if one.stage == "ahead" and upcoming_ch <= true_ch < milestone_ch:
        reached.append(("upcoming", upcoming_ch))
    if one.stage in ("ahead", "upcoming") and true_ch >= milestone_ch:
        reached.append(("due", milestone_ch))
    if one.stage in ("ahead", "upcoming", "due") and true_ch >= overdue_ch:
        reached.append(("overdue", overdue_ch))
    return reached


def _passing(basis: Basis, milestone_h: int, stage: Told, passed: Passed) -> Event:
    forecast_due_at = None
    if stage == "upcoming":
        forecast_due_at = due_at(passed.usage, milestone_h * 100, passed.time, passed.true_ch)
    return _event(basis, milestone_h, stage, passed.time, free=passed.free, forecast_due_at=forecast_due_at)


def done(
    state: InspectionsState, basis: Basis, command: InspectionDone, milestone_h: int, *, free: bool
) -> tuple[InspectionsState, tuple[Event, ...]] | str:
    """The milestone completed and every earlier open one superseded, or the reason why the command is refused."""
    known = {one.milestone_h: one.stage for one in state.milestones}
    if milestone_h not in known:
        return f"the edition knows no inspection at {milestone_h} h"
    if known[milestone_h] not in OPEN_STAGES:
        return f"the inspection at {milestone_h} h is already {known[milestone_h]}"
    milestones, events = [], []
    for one in state.milestones:
        ending = _ending(one, milestone_h)
        if ending is not None:
            events.append(_event(basis, one.milestone_h, ending, command.performed_at, free=free))
        milestones.append(one if ending is None else Milestone(one.milestone_h, ending))
    return InspectionsState(tuple(milestones)), tuple(events)


def _ending(one: Milestone, done_h: int) -> Literal["completed", "superseded"] | None:
    if one.milestone_h > done_h or one.stage not in OPEN_STAGES:
        return None
    return "completed" if one.milestone_h == done_h else "superseded"


def _event(
    basis: Basis, milestone_h: int, stage: Told, time: datetime, *, free: bool, forecast_due_at: datetime | None = None
) -> Event:
    promise = Promise(
        kind="inspection",
        subject=str(milestone_h),
        stage=stage,
        clause=CLAUSE,
        time=time,
        version=VERSION,
        milestone_h=milestone_h,
        forecast_due_at=forecast_due_at,
        free_of_charge=free and stage != "superseded",  # a superseded one lapses unused (I2)
    )
    return maintenance_due(basis, promise)
