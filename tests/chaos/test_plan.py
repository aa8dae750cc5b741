"""What a seed stands for: the same faults for ever, as many as the scale says, a third of the kills aimed."""

from collections import Counter

import pytest
from msgspec.structs import replace

from tests.chaos.plan import DEFAULT, SHORT, STOPPED_S, Fault, Kind, Scale, plan

SCALES = pytest.mark.parametrize("scale", [DEFAULT, SHORT], ids=["default", "short"])


@SCALES
@pytest.mark.parametrize("seed", range(1, 21))
def test_a_seed_is_a_plan(scale: Scale, seed: int) -> None:
    faults = plan(seed, scale)
    assert faults == plan(seed, scale)
    assert faults != plan(seed + 1, scale)
    kinds = Counter(fault.kind for fault in faults)
    assert kinds[Kind.KILL] + kinds[Kind.KILL_IN_TRANSACTION] == scale.kills
    assert kinds[Kind.KILL_IN_TRANSACTION] >= scale.kills / 3
    assert kinds[Kind.KILL_IN_TRANSACTION] >= scale.need.kills_in_transaction
    assert kinds[Kind.SESSIONS] + kinds[Kind.SESSIONS_IN_TRANSACTION] + kinds[Kind.DATABASE] == scale.database_kills
    assert kinds[Kind.BROKER] == scale.broker_outages
    assert set(kinds) == set(Kind), "each kind of fault is in every plan"
    assert all(fault.lasts_s >= STOPPED_S > 10 for fault in faults if fault.kind is Kind.STOP)


def test_the_default_is_what_was_promised() -> None:
    assert (DEFAULT.pings, DEFAULT.kills, DEFAULT.database_kills, DEFAULT.broker_outages) == (100_000, 30, 10, 5)
    need = DEFAULT.need
    assert (need.kills_in_transaction, need.redelivered, need.fenced, need.in_doubt) == (10, 1, 1, 1)


def test_a_brisk_plan_has_the_dead_members_of_ingest_at_its_end() -> None:
    scale = replace(DEFAULT, brisk=True)
    faults = plan(1, scale)
    assert Counter((one.kind, one.role, one.lasts_s) for one in faults) == Counter(
        (one.kind, one.role, one.lasts_s) for one in plan(1, DEFAULT)
    )
    assert all(one.graceful for one in faults)
    first = next(place for place, fault in enumerate(faults) if _kills_ingest(fault))
    assert {fault.kind for fault in faults[first:]} == {
        Kind.KILL,
        Kind.KILL_IN_TRANSACTION,
        Kind.BROKER,
        Kind.DATABASE,
    }


def _kills_ingest(fault: Fault) -> bool:
    return fault.role == "ingest" and fault.kind in {Kind.KILL, Kind.KILL_IN_TRANSACTION}
