"""Whatever happens to machines, their history raises again exactly what ingest has stored, and a replay adds nothing.

Random lives go through ingest's own handler into the real database: late and future pings, repeats, pings before the
registration, commands, changes of status, silences, and what only the calendar decides; the owner forgets its cache now
and then.
"""

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_svc.telemetry import (
    Input,
    InspectionDone,
    Machine,
    MachineId,
    MeterDecision,
    Reading,
    Registration,
    Tick,
)
from tests.ingest.failing import deployed, of
from tests.replay.lane import Arrival, Lane, arrival
from tests.rules.budget import SCALE, budget
from tests.rules.histories import BEGIN, histories
from tests.rules.machines import registration

# A search is three times as fast uncounted; what only a search reaches is covered by no case that names it.
pytestmark = pytest.mark.uncounted

Life = tuple[Machine, list[Input]]
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
reached: Counter[str] = Counter()


def arrivals_of(name: str, life: Life, registered_after: int) -> list[Arrival]:
    """What the broker gets: the registration may come only after some of the pings."""
    machine, inputs = life
    own = replace(machine, machine_id=MachineId(name))
    came: list[Arrival] = []
    for one in inputs:
        match one:
            case Reading(ping=ping, received_at=at):
                came.append(arrival(replace(ping, machine_id=own.machine_id), at))
            case Registration(machine=changed, received_at=at):
                changed = replace(changed, machine_id=own.machine_id)
                came.append(arrival(replace(one, machine=changed, command_id=uuid4()), at))
            case InspectionDone(received_at=at) | MeterDecision(received_at=at):
                came.append(arrival(replace(one, machine_id=own.machine_id, command_id=uuid4()), at))
            case Tick():
                pass  # time passes by itself here
    at = came[registered_after].at if registered_after < len(came) else BEGIN
    return [
        *came[:registered_after],
        arrival(replace(registration(own, at), command_id=uuid4()), at),
        *came[registered_after:],
    ]


async def fed(lane: Lane, arrivals: list[Arrival], at_once: int) -> None:
    """The owner forgets its cache after each part."""
    for start in range(0, len(arrivals), at_once):
        await lane.feed(arrivals[start : start + at_once])
        await lane.look()
        lane.handler.dropped()


@settings(budget(40), phases=PHASES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(histories(with_changes=True), min_size=1, max_size=3),
    late_by=st.sampled_from([0, 0, 1, 3]),
    at_once=st.sampled_from([1, 5, 500]),
)
async def test_history_raises_again_what_is_stored_and_nothing_else(
    lane: Lane, lives: list[Life], late_by: int, at_once: int
) -> None:
    await lane.begin()
    names = [f"M{number}" for number in range(len(lives))]
    arrivals = [one for name, life in zip(names, lives, strict=True) for one in arrivals_of(name, life, late_by)]
    arrivals.sort(key=lambda one: one.at)
    half = len(arrivals) // 2
    await fed(lane, arrivals[:half], at_once)
    cut = lane.now
    await lane.execute("UPDATE machine_state SET snapshot_at = '2001-01-01'")
    await lane.batch([], cut)
    await fed(lane, arrivals[half:], at_once)
    for name in names:
        stored = await lane.facts(name)
        outcome = await lane.replayed(name)
        assert (outcome.verdict.new, outcome.verdict.missing) == ((), ())
        assert outcome.verdict.same == len(stored)
        reached.update(" ".join((fact.split()[0], fact.split()[-1])) for fact in stored)
    query = "SELECT machine_id, event_n FROM machine_snapshot WHERE taken_at = :cut"
    for name, event_n in await lane.rows(query, cut=cut):
        outcome = await lane.replayed(name, since=cut)
        assert (outcome.start.kind, outcome.verdict.new) == ("snapshot", ())
        later = "SELECT count(*) FROM event WHERE machine_id = :name AND n > :event_n"
        assert await lane.rows(later, name=name, event_n=event_n) == [(outcome.verdict.same,)]
    sent = await lane.rows("SELECT count(*) FROM outbox")
    for name in names:
        assert (await lane.replayed(name, dry_run=False)).added == 0
    assert await lane.rows("SELECT count(*) FROM outbox") == sent


@settings(budget(8), phases=PHASES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(histories(with_changes=True), min_size=2, max_size=2),
    late_by=st.sampled_from([0, 0, 1, 3]),
    at_once=st.sampled_from([1, 5, 500]),
    fails=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
async def test_a_machine_that_was_parked_has_all_that_came_and_a_replay_agrees(
    lane: Lane, lives: list[Life], late_by: int, at_once: int, fails: list[float]
) -> None:
    """The rules fail at everything of one machine, from some record on until some later one has come."""
    await lane.begin()
    names = ["M0", "M1"]
    arrivals = [one for name, life in zip(names, lives, strict=True) for one in arrivals_of(name, life, late_by)]
    arrivals.sort(key=lambda one: one.at)
    first, mended = (round(share * len(arrivals)) for share in fails)
    before, meanwhile, after = arrivals[:first], arrivals[first:mended], arrivals[mended:]
    for part in (before, meanwhile, after):  # what comes in one batch is decided in the order of a batch
        await fed(lane, part, at_once)
    expected = [await decided(lane, name) for name in names]
    await lane.begin()
    await fed(lane, before, at_once)
    with deployed(of("M0")):
        await fed(lane, meanwhile, at_once)
        await lane.turn_once()
    await lane.turn()
    await fed(lane, after, at_once)
    assert [await decided(lane, name) for name in names] == expected
    for name in names:
        verdict = (await lane.replayed(name)).verdict
        assert (verdict.new, verdict.missing) == ((), ())
    left = "error_class IN ('internal', 'unknown_machine') AND taken_up_as IS NULL"
    assert await lane.rows(f"SELECT * FROM dead_letter WHERE {left}") == []
    assert await lane.rows("SELECT machine_id FROM parked_machine UNION SELECT machine_id FROM held_record") == []


async def decided(lane: Lane, name: str) -> list[Any]:
    """Every ping and command of a machine in the order of decision, and what became of the commands."""
    kept = "SELECT apply_seq, received_at, topic_offset, 'ping' AS what, future::text AS how FROM"
    where = "WHERE machine_id = :name"
    commands = f"SELECT apply_seq, received_at, 0, kind, status || COALESCE(reason, '') FROM command {where}"
    everything = f"{kept} ping {where} UNION ALL {kept} ping_outlier {where} UNION ALL {commands}"
    order = "ORDER BY apply_seq, (what = 'ping'), received_at, topic_offset"
    return await lane.rows(f"SELECT received_at, topic_offset, what, how FROM ({everything}) AS e {order}", name=name)


@pytest.mark.skipif(SCALE < 1, reason="fewer lives reach less")
def test_the_lives_above_reached_every_kind_of_fact() -> None:
    kinds = {fact.split()[0] for fact in reached}
    assert kinds >= {"inspection", "warranty", "checkup", "fault", "hour_meter", "silence", "position", "sensor"}
    assert {"silence opened", "silence cleared", "warranty expired", "checkup due", "inspection overdue"} <= set(
        reached
    )
