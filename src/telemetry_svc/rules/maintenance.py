"""Inspections, warranty and check-ups together: what one machine is promised, and when the next of it can come true.

The three meet in two places: contract.md orders the facts of one reading across them, and the end of W1 begins the
check-ups. `next_hours_ch` and `next_at` are kept beside the states, so that an ordinary reading is two comparisons.
"""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules import checkups, inspections, usage, warranty
from telemetry_svc.rules.checkups import CheckupsState
from telemetry_svc.rules.facts import Basis, Fact, Rank, in_order
from telemetry_svc.rules.inspections import NEVER_CH, InspectionsState, Passed
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.usage import UsageState
from telemetry_svc.rules.warranty import CoverageState
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import InspectionDone, Machine


class MaintenanceState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`registered_at`: when the machine was first registered. `quiet`: the first reading is still to be settled."""

    registered_at: datetime
    quiet: bool = False
    inspections: InspectionsState = InspectionsState()
    warranty: tuple[CoverageState, ...] = ()
    checkups: CheckupsState = CheckupsState()
    usage: UsageState = UsageState()
    next_hours_ch: int = NEVER_CH
    next_at: datetime = NEVER


Result = tuple[MaintenanceState, tuple[Event, ...]]


def begin(policy: Policy, machine: Machine, at: datetime, *, quiet: bool) -> MaintenanceState:
    """A machine registered at `at`, with nothing settled yet."""
    return MaintenanceState(
        registered_at=at,
        quiet=quiet,
        inspections=inspections.begin(policy.inspections),
        warranty=warranty.covers(policy.warranty, machine),
    )


def changed(policy: Policy, state: MaintenanceState, machine: Machine) -> MaintenanceState:
    """The same history under another registration (tonnage, delivery date, zone)."""
    return replace(
        state,
        warranty=warranty.covers(policy.warranty, machine, state.warranty),
        checkups=checkups.rezoned(policy.checkups, state.checkups, machine.time_zone),
    )


def settle(policy: Policy, state: MaintenanceState, machine: Machine, level_ch: int, at: datetime) -> MaintenanceState:
    """Record without a word what stands at or under `level_ch`, or lies before `at`."""
    covered = warranty.settle(state.warranty, level_ch, at)
    yearly = state.checkups
    if warranty.has_ended(covered):
        yearly = _settled_checkups(policy, yearly, covered, machine, at)
    inspected = inspections.settle(state.inspections, level_ch, policy.inspections.overdue_after_ch)
    return _awaiting(policy, replace(state, inspections=inspected, warranty=covered, checkups=yearly))


def _settled_checkups(
    policy: Policy, state: CheckupsState, covered: tuple[CoverageState, ...], machine: Machine, at: datetime
) -> CheckupsState:
    if state.base_day is not None:
        return checkups.settle(policy.checkups, state, machine.time_zone, at)
    ended_at = next(one.ends_at for one in covered if one.coverage == "machine")
    return checkups.begin_settled(policy.checkups, state, ended_at, machine.time_zone, at)


def _awaiting(policy: Policy, state: MaintenanceState) -> MaintenanceState:
    hours_ch = min(
        inspections.next_hours_ch(policy.inspections, state.inspections, state.usage),
        warranty.next_hours_ch(state.warranty),
    )
    return replace(state, next_hours_ch=hours_ch, next_at=min(warranty.next_at(state.warranty), state.checkups.next_at))


def observed(policy: Policy, state: MaintenanceState, at: datetime, true_ch: int) -> MaintenanceState:
    """With the first accepted reading of another day in the machine's usage."""
    seen = usage.observed(policy.inspections.forecast, state.usage, at, true_ch)
    return _awaiting(policy, replace(state, usage=seen))


def by_hours(
    policy: Policy, state: MaintenanceState, machine: Machine, basis: Basis, true_ch: int, time: datetime
) -> Result:
    """All facts of one accepted reading, in the contract's order."""
    if state.quiet:
        state = replace(settle(policy, state, machine, true_ch, max(time, state.registered_at)), quiet=False)
    passed = Passed(true_ch, time, state.usage, inspections.is_free(policy.inspections, machine.tonnage_t))
    inspected, facts = inspections.by_hours(policy.inspections, state.inspections, basis, passed)
    covered, ending = warranty.by_hours(state.warranty, basis, true_ch, time)
    yearly, first = _first_checkup(policy, state, covered, machine, basis, time)
    after = replace(state, inspections=inspected, warranty=covered, checkups=yearly)
    return _awaiting(policy, after), in_order(facts + ending + first)


def by_late_hours(
    policy: Policy,
    state: MaintenanceState,
    machine: Machine,
    basis: Basis,
    hours_ch: int,
    at: datetime,
    latest_at: datetime,
) -> Result:
    """A late reading that agrees, under the true hours: it can still show that W1 ended earlier than was noticed."""
    ended_at = state.checkups.ended_at
    limits = [one.limit_ch for one in state.warranty if one.coverage == "machine"]
    if ended_at is None or at >= ended_at or not limits or hours_ch < limits[0]:
        return state, ()
    yearly = checkups.begun_earlier(policy.checkups, state.checkups, at, machine.time_zone, state.registered_at)
    yearly, events = checkups.by_clock(policy.checkups, yearly, basis, machine.time_zone, latest_at)
    return _awaiting(policy, replace(state, checkups=yearly)), events


def _first_checkup(
    policy: Policy,
    state: MaintenanceState,
    covered: tuple[CoverageState, ...],
    machine: Machine,
    basis: Basis,
    ended_at: datetime,
) -> tuple[CheckupsState, list[Fact]]:
    """The check-up that begins where W1 has just ended; it stands at the same hours."""
    if not warranty.has_ended(covered) or warranty.has_ended(state.warranty):
        return state.checkups, []
    yearly, events = checkups.begin(
        policy.checkups, state.checkups, basis, ended_at, machine.time_zone, state.registered_at
    )
    limit_ch = next(one.limit_ch for one in covered if one.coverage == "machine")
    return yearly, [Fact(limit_ch, Rank.CHECKUP, event) for event in events]


def by_clock(policy: Policy, state: MaintenanceState, machine: Machine, basis: Basis, at: datetime) -> Result:
    """What the calendar alone has decided up to `at`, in the order in which it became true."""
    if at < state.next_at:
        return state, ()
    covered, events = warranty.by_clock(state.warranty, basis, at)
    ends = [one.ends_at for one in covered if one.coverage == "machine"]
    yearly, first = _first_checkup(policy, state, covered, machine, basis, ends[0] if ends else NEVER)
    yearly, later = checkups.by_clock(policy.checkups, yearly, basis, machine.time_zone, at)
    after = replace(state, warranty=covered, checkups=yearly)
    return _awaiting(policy, after), (*events, *(fact.event for fact in first), *later)


def inspection_done(
    policy: Policy, state: MaintenanceState, machine: Machine, basis: Basis, command: InspectionDone
) -> Result | str:
    """An inspection or a check-up done, or the reason why the command is refused."""
    if command.milestone_h is not None:
        free = inspections.is_free(policy.inspections, machine.tonnage_t)
        inspected = inspections.done(state.inspections, basis, command, command.milestone_h, free=free)
        if isinstance(inspected, str):
            return inspected
        return _awaiting(policy, replace(state, inspections=inspected[0])), inspected[1]
    number = command.checkup_no or 0
    yearly = checkups.done(policy.checkups, state.checkups, basis, command, number, machine.time_zone)
    if isinstance(yearly, str):
        return yearly
    return _awaiting(policy, replace(state, checkups=yearly[0])), yearly[1]
