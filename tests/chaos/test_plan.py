"""What a seed stands for: the same faults for ever, as many as the scale says, a third of the kills aimed."""

from collections import Counter

import pytest
from msgspec.structs import replace

from tests.chaos.plan import (
    BROKER_OUTAGES,
    DATABASE_KILLS,
    DEFAULT,
    KILLS,
    OUTAGES,
    SHORT,
    STOPPED_S,
    Fault,
    Kind,
    Scale,
    plan,
    planned,
)
from tests.chaos.traffic import Pace

SCALES = pytest.mark.parametrize("scale", [DEFAULT, SHORT], ids=["default", "short"])
SEEDS = range(1, 21)
LEFT_TO_THE_LONG_ONE = {Kind.DATABASE_STOP, Kind.BROKER_STOP}


def _of(kinds: Counter[Kind], some: tuple[Kind, ...]) -> int:
    return sum(kinds[kind] for kind in some)


@SCALES
def test_a_seed_is_a_plan(scale: Scale) -> None:
    for seed in SEEDS:
        faults = plan(seed, scale)
        assert faults == plan(seed, scale)
        assert faults != plan(seed + 1, scale)
        kinds = planned(faults)
        assert _of(kinds, KILLS) == scale.kills
        assert kinds[Kind.KILL_IN_TRANSACTION] >= max(scale.kills / 3, scale.need.kills_in_transaction)
        assert _of(kinds, DATABASE_KILLS) == scale.sessions_kills + scale.database_kills
        assert _of(kinds, BROKER_OUTAGES) == scale.broker_kills + scale.broker_stops
        assert set(kinds) == set(Kind) - (LEFT_TO_THE_LONG_ONE if scale is SHORT else set())
        assert all(fault.lasts_s >= STOPPED_S > 10 for fault in faults if fault.kind is Kind.STOP)


@SCALES
def test_both_servers_are_killed_and_members_are_struck_while_one_is_down(scale: Scale) -> None:
    """No toss of a coin decides whether a run has a crash of the database, or of the broker."""
    for seed in SEEDS:
        faults = plan(seed, scale)
        kinds = planned(faults)
        assert kinds[Kind.DATABASE_KILL] >= 1
        assert kinds[Kind.BROKER_KILL] >= 1
        amid = {one.kind for fault in faults if fault.kind in OUTAGES for one in fault.meanwhile}
        assert {Kind.KILL, Kind.LEAVE} <= amid
        assert not any(fault.meanwhile for fault in faults if fault.kind not in OUTAGES)


def test_the_default_is_what_was_promised() -> None:
    for seed in SEEDS:
        faults = plan(seed, DEFAULT)
        kinds = planned(faults)
        assert (DEFAULT.pings, _of(kinds, KILLS), _of(kinds, BROKER_OUTAGES)) == (100_000, 30, 5)
        assert (_of(kinds, DATABASE_KILLS), kinds[Kind.DATABASE_KILL]) == (10, 5)
        [broker] = [one for one in faults if Kind.DATABASE_STOP in {two.kind for two in one.meanwhile}]
        assert broker.kind is Kind.BROKER_STOP, "one server goes while the other is away"
    need = DEFAULT.need
    assert (need.kills_in_transaction, need.redelivered, need.fenced, need.in_doubt) == (10, 1, 1, 1)


def test_a_brisk_plan_has_the_dead_members_of_ingest_at_its_end() -> None:
    faults = plan(1, replace(DEFAULT, brisk=True))
    assert planned(faults) == planned(plan(1, DEFAULT))
    first = next(place for place, fault in enumerate(faults) if _kills_ingest(fault))
    assert {fault.kind for fault in faults[first:]} <= {*KILLS, *OUTAGES, Kind.JOIN}
    assert not any(_kills_ingest(one) or one.kind in OUTAGES for one in faults[:first] if one.kind is not Kind.KILL)


def _kills_ingest(fault: Fault) -> bool:
    return fault.role == "ingest" and fault.kind in KILLS


async def test_bursts_leave_something_to_go_on_with() -> None:
    """However long a fault is stirred for, there is traffic for the next."""
    pace, sent = Pace(4_000, 10_000.0), 0
    for _ in range(20):
        pace.burst(300)
        sent += await pace.step()
    assert 2_000 < sent < 4_000
