"""A machine that waited (behind a record that failed, or for its registration) has the life it would have had.

Months pass in a second here; tests/ingest/test_bad_deploy.py has the same on the real broker.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from telemetry_svc.ingest import handler
from telemetry_svc.telemetry import Reading, Tick
from tests.ingest.failing import deployed, of
from tests.replay.lane import Arrival, Lane, arrival
from tests.replay.test_scenarios import BEGIN, DAY, HOUR, M, ping, registered, working
from tests.rules.machines import done, machine

LIFE = """SELECT id, rule || ' ' || subject || ' ' || stage, time, body -> 'data' FROM event ORDER BY n"""


def life() -> list[Arrival]:
    """Works, is silent for 90 h, works on; an inspection is done, and its warranty ends by the clock."""
    after = BEGIN + 10 * DAY
    inspected = arrival(replace(done(50, after + HOUR), command_id=uuid4()), after + 90 * HOUR)
    return [*working(10), inspected, *working(10, after + 90 * HOUR, 145.0), ping(after + 40 * DAY, 250.0)]


async def lived(lane: Lane, arrivals: list[Arrival], until: datetime) -> list[Any]:
    await lane.feed(sorted(arrivals, key=lambda one: one.at))
    await lane.pass_time(until)
    return await lane.rows(LIFE)


async def assert_a_replay_agrees(lane: Lane) -> None:
    verdict = (await lane.replayed(M)).verdict
    assert not [*verdict.new, *verdict.missing]


@pytest.mark.parametrize("fails_from", [0, 3, 12, 30], ids="from day {}".format)
async def test_what_a_parked_machine_missed_is_decided_as_if_it_had_come_in_time(lane: Lane, fails_from: int) -> None:
    of_that_machine = machine(delivered_on=(BEGIN - 500 * DAY).date())
    arrivals, end = [registered(of_that_machine), *life()], BEGIN + 60 * DAY
    expected = await lived(lane, arrivals, end)
    assert {"silence", "inspection", "warranty"} <= {row[1].split()[0] for row in expected}
    await lane.begin()
    since = BEGIN + fails_from * DAY
    with deployed(lambda _, given: not isinstance(given, Tick) and given.received_at >= since) as deploy:
        before = await lived(lane, arrivals, end)
        assert len(before) < len(expected)
        assert await lane.rows("SELECT error_class, taken_up_as FROM dead_letter") == [("internal", None)]
        [(held,)] = await lane.rows("SELECT count(*) FROM held_record")
        assert held == sum(one.at >= since for one in arrivals) - 1
        deploy.mend()
    await lane.turn()
    await lane.pass_time(end)
    assert await lane.rows(LIFE) == expected
    assert await lane.rows("SELECT error_class, taken_up_as FROM dead_letter") == [("internal", "replayed")]
    for table in ("parked_machine", "held_record"):
        assert await lane.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    await assert_a_replay_agrees(lane)


async def test_no_tick_is_applied_to_a_parked_machine(lane: Lane) -> None:
    """It would be called silent while its pings are held."""
    await lane.feed([registered(), *working(5)])
    with deployed(of(M)):
        await lane.feed(working(5, BEGIN + 5 * DAY, 95.0))
        for hour in range(100):
            await lane.batch([], BEGIN + 6 * DAY + hour * HOUR)
    assert "silence" not in {fact.split()[0] for fact in await lane.facts(M)}


async def test_more_letters_than_a_turn_takes_are_taken_up_in_several_and_in_order(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = BEGIN + 5 * DAY
    early, after = working(5), working(5, late, 95.0)
    arrivals = [*early, registered(at=late), *after]
    expected = await lived(lane, arrivals, late)
    await lane.begin()
    monkeypatch.setattr(handler, "AT_ONCE", 7)
    assert await lived(lane, arrivals, late) != expected
    assert await lane.rows("SELECT taken_up_as, count(*) FROM dead_letter GROUP BY 1 ORDER BY 1") == [
        ("replayed", 7),
        (None, 13),
    ]
    assert await lane.rows("SELECT reason FROM parked_machine") == [("catching up",)]
    assert await lane.rows("SELECT count(*) FROM held_record") == [(len(after),)]
    await lane.turn()
    assert await lane.rows(LIFE) == expected
    assert await lane.rows("SELECT taken_up_as, count(*) FROM dead_letter GROUP BY 1") == [("replayed", 20)]
    assert await lane.rows("SELECT count(*) FROM parked_machine") == [(0,)]
    order = "SELECT hour_meter_ch FROM ping ORDER BY apply_seq, received_at"
    assert [row[0] for row in await lane.rows(order)] == [4500 + number * 250 for number in range(40)]
    await assert_a_replay_agrees(lane)


async def test_a_letter_that_fails_when_its_machine_is_registered_parks_the_machine_behind_it(lane: Lane) -> None:
    late = BEGIN + 5 * DAY
    arrivals = [*working(5), registered(at=late), *working(5, late, 95.0)]
    expected = await lived(lane, arrivals, late)
    await lane.begin()
    with deployed(lambda _, given: isinstance(given, Reading) and given.ping.hour_meter_ch == 5500) as deploy:
        await lived(lane, arrivals, late)
        assert await lane.rows("SELECT taken_up_as, count(*) FROM dead_letter GROUP BY 1 ORDER BY 1") == [
            ("replayed", 4),
            (None, 16),
        ]
        await lane.execute("UPDATE parked_machine SET next_try_at = now()")
        await lane.turn_once()
        assert await lane.rows("SELECT tries, topic_offset FROM parked_machine") == [(1, 4)]
        deploy.mend()
    await lane.turn()
    assert await lane.rows(LIFE) == expected
    assert await lane.rows("SELECT error_class, taken_up_as, count(*) FROM dead_letter GROUP BY 1, 2") == [
        ("unknown_machine", "replayed", 20)
    ]
    await assert_a_replay_agrees(lane)


async def test_a_letter_that_a_person_wants_tried_parks_nobody(lane: Lane) -> None:
    await lane.feed([registered(), *working(1)])
    with deployed(of(M)):
        await lane.feed([ping(BEGIN + DAY, 60.0)])
    await lane.turn()
    await lane.execute("UPDATE dead_letter SET taken_up_at = NULL, taken_up_as = NULL, requested_at = now()")
    await lane.execute("DELETE FROM ping WHERE hour_meter_ch = 6000")
    with deployed(of(M)):
        await lane.turn()
        assert await lane.rows("SELECT taken_up_as, requested_at FROM dead_letter") == [("internal", None)]
        assert await lane.rows("SELECT count(*) FROM parked_machine") == [(0,)]
    await lane.execute("UPDATE dead_letter SET requested_at = now()")
    await lane.turn()
    assert await lane.rows("SELECT taken_up_as FROM dead_letter") == [("replayed",)]
    assert await lane.rows("SELECT topic_offset, received_at FROM ping WHERE hour_meter_ch = 6000") == [
        (4, BEGIN + DAY)
    ]


async def test_what_postgresql_refuses_of_a_parked_machine_holds_up_no_record(lane: Lane) -> None:
    """The consumer comes with a turn alone and the word that it is poison; the machine waits for its next try."""
    await lane.feed([registered(), *working(1)])
    with deployed(of(M)):
        await lane.feed([ping(BEGIN + DAY, 60.0)])
    await lane.execute("UPDATE parked_machine SET next_try_at = now()")
    await lane.turn_once(poison="PostgreSQL refuses a value")
    assert await lane.rows("SELECT tries, next_try_at > now() + interval '20 s' FROM parked_machine") == [(1, True)]
    assert await lane.rows("SELECT taken_up_as FROM dead_letter") == [(None,)]
    await lane.turn()
    assert await lane.rows("SELECT taken_up_as FROM dead_letter") == [("replayed",)]


async def test_a_machine_whose_tick_fails_lets_others_have_theirs(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one machine in a turn: the failing one would be found first again and again."""
    monkeypatch.setattr(handler, "MACHINES_PER_TURN", 1)
    other = "ZE215-000018"
    first = machine(delivered_on=(BEGIN - 550 * DAY).date())
    second = machine(machine_id=other, delivered_on=(BEGIN - 549 * DAY).date())
    await lane.feed([registered(first), registered(second)])
    due = (await lane.rows("SELECT max(next_check_at) FROM machine_state"))[0][0]
    with deployed(lambda machine_id, given: machine_id == M and isinstance(given, Tick)):
        await lane.batch([], due + timedelta(minutes=1))
        for _ in range(5):
            await lane.batch([])
        assert not lane.handler.wants_turn()
        assert [await lane.facts(M), len(await lane.facts(other)) > 0] == [[], True]
    await lane.batch([], due + timedelta(minutes=3))
    for _ in range(5):
        await lane.batch([])
    assert await lane.facts(M)
