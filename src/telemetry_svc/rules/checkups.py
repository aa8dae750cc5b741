"""The yearly check-up after the whole-machine warranty (policy.md, R4).

The first falls due with the end of W1, the others every so many months from that day at 00:00 in the machine's
zone. Only the next number and its instant are remembered, so that a machine that sends nothing costs one comparison
per tick.
"""

from datetime import date, datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules.facts import Basis, Promise, maintenance_due
from telemetry_svc.rules.zone_time import NEVER, add_months, local_day, midnight
from telemetry_svc.telemetry import InspectionDone

CLAUSE = "R4"
VERSION = 1


class CheckupsBlock(Struct, frozen=True):
    every_months: int


class CheckupsState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`base_day` is the day W1 ended (`None` before); `next_no` the first not yet due; `open_nos` due and not done.

    `ended_at`: when W1 ended, where a reading or the clock has decided it (not settled at registration).
    """

    base_day: date | None = None
    ended_at: datetime | None = None
    next_no: int = 1
    next_at: datetime = NEVER
    open_nos: tuple[int, ...] = ()


def _scheduled(block: CheckupsBlock, state: CheckupsState, time_zone: str) -> CheckupsState:
    """The same state with the instant of its next check-up."""
    if state.base_day is None:
        return state
    day = add_months(state.base_day, block.every_months * (state.next_no - 1))
    return replace(state, next_at=midnight(day, time_zone))


def rezoned(block: CheckupsBlock, state: CheckupsState, time_zone: str) -> CheckupsState:
    """After a change of the machine's zone; only what lies ahead moves."""
    return _scheduled(block, state, time_zone)


def settle(block: CheckupsBlock, state: CheckupsState, time_zone: str, at: datetime) -> CheckupsState:
    """Skip, without a word, every check-up up to and including the day of `at` (00:00 of a day is past all day)."""
    state = _scheduled(block, state, time_zone)
    while state.next_at <= at:
        state = _scheduled(block, replace(state, next_no=state.next_no + 1), time_zone)
    return state


def begin_settled(
    block: CheckupsBlock, state: CheckupsState, ended_at: datetime, time_zone: str, at: datetime
) -> CheckupsState:
    """W1 had ended before the registration `at`: counted from its end by date where that is past, else from `at`."""
    base_day = local_day(min(ended_at, at), time_zone)
    return settle(block, replace(state, base_day=base_day), time_zone, at)


def begin(
    block: CheckupsBlock,
    state: CheckupsState,
    basis: Basis,
    ended_at: datetime,
    time_zone: str,
    registered_at: datetime,
) -> tuple[CheckupsState, tuple[Event, ...]]:
    """W1 ends now: the first is due at the same time; those after it up to the day of registration are settled."""
    state = replace(state, base_day=local_day(ended_at, time_zone), ended_at=ended_at)
    if state.next_no > 1:  # the first was done before the warranty ended
        return settle(block, state, time_zone, registered_at), ()
    state = replace(state, next_no=2, open_nos=(1,))
    return settle(block, state, time_zone, registered_at), (_event(basis, 1, "due", ended_at),)


def begun_earlier(
    block: CheckupsBlock, state: CheckupsState, ended_at: datetime, time_zone: str, registered_at: datetime
) -> CheckupsState:
    """A late reading shows that W1 had ended before the day it was noticed: the order of arrival decides nothing."""
    earlier = replace(state, base_day=local_day(ended_at, time_zone), ended_at=ended_at)
    return settle(block, earlier, time_zone, registered_at)


def by_clock(
    block: CheckupsBlock, state: CheckupsState, basis: Basis, time_zone: str, at: datetime
) -> tuple[CheckupsState, tuple[Event, ...]]:
    """Every check-up whose instant has come, in order."""
    events: list[Event] = []
    while state.next_at <= at:
        events.append(_event(basis, state.next_no, "due", state.next_at))
        state = replace(state, next_no=state.next_no + 1, open_nos=(*state.open_nos, state.next_no))
        state = _scheduled(block, state, time_zone)
    return state, tuple(events)


def done(
    block: CheckupsBlock, state: CheckupsState, basis: Basis, command: InspectionDone, checkup_no: int, time_zone: str
) -> tuple[CheckupsState, tuple[Event, ...]] | str:
    """The check-up completed and earlier open ones superseded, or the reason why the command is refused."""
    if checkup_no > state.next_no:
        return f"check-up {checkup_no} lies beyond the next one ({state.next_no})"
    if checkup_no < state.next_no and checkup_no not in state.open_nos:
        return f"check-up {checkup_no} is already settled"
    events = [
        _event(basis, number, "superseded", command.performed_at) for number in state.open_nos if number < checkup_no
    ]
    events.append(_event(basis, checkup_no, "completed", command.performed_at))
    later = tuple(number for number in state.open_nos if number > checkup_no)
    state = replace(state, open_nos=later, next_no=max(state.next_no, checkup_no + 1))
    return _scheduled(block, state, time_zone), tuple(events)


def _event(basis: Basis, number: int, stage: Literal["due", "completed", "superseded"], time: datetime) -> Event:
    return maintenance_due(basis, Promise("checkup", str(number), stage, CLAUSE, time, VERSION, checkup_no=number))
