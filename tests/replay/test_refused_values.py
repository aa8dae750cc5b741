"""What PostgreSQL refuses of the records that wait in the database is one letter each, wherever they wait.

The batch is cut down here as the consumer does it; tests/ingest/test_refused_values.py has the whole way.
"""

from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.events import Event
from telemetry_svc.ingest import handler, writing
from telemetry_svc.store.dead_letter_list import what_became
from telemetry_svc.store.raising import raise_events
from tests.ingest.failing import deployed, of
from tests.ingest.spoilt import spoil
from tests.replay.lane import Arrival, Lane, arrival
from tests.replay.test_scenarios import BEGIN, DAY, HOUR, M, ping, registered, working
from tests.rules.machines import ch, done, machine

LETTERS = """
    SELECT topic_offset, error_class, taken_up_as FROM dead_letter ORDER BY topic_offset
"""
WHY = "CharacterNotInRepertoireError: PostgreSQL refuses a value"


def refuse(monkeypatch: pytest.MonkeyPatch, numbers: Sequence[int]) -> None:
    """PostgreSQL refuses these pings of `working`."""
    spoil(monkeypatch, lambda one: one.hour_meter_ch in {ch(45.0 + number * 2.5) for number in numbers})


async def stored(lane: Lane) -> list[int]:
    """The pings of `working` in history, in the order in which they were decided."""
    rows = await lane.rows("SELECT hour_meter_ch FROM ping ORDER BY apply_seq, received_at")
    return [(row[0] - ch(45.0)) // 250 for row in rows]


async def assert_nothing_waits(lane: Lane) -> None:
    for table in ("parked_machine", "held_record"):
        assert await lane.rows(f"SELECT * FROM {table}") == []
    verdict = (await lane.replayed(M)).verdict
    assert not [*verdict.new, *verdict.missing]


def but(numbers: range, refused: Sequence[int]) -> list[int]:
    return [number for number in numbers if number not in refused]


@pytest.mark.parametrize("refused", [[11], [4, 5, 6, 12, 19]], ids=["one_amid", "several_and_the_first"])
async def test_behind_a_parked_machine(lane: Lane, monkeypatch: pytest.MonkeyPatch, refused: list[int]) -> None:
    """It is parked behind number 4; refused when it is taken up, that letter is told so and stays one."""
    refuse(monkeypatch, refused)
    await lane.feed([registered(), *working(1)])
    with deployed(of(M)):
        await lane.feed(working(5)[4:])
    await lane.execute("UPDATE parked_machine SET next_try_at = now()")
    await lane.look()
    assert await stored(lane) == but(range(20), refused)
    first = (4, "internal", "internal" if 4 in refused else "replayed")
    assert await lane.rows(LETTERS) == [first, *((number, "internal", None) for number in refused if number != 4)]
    await lane.feed(working(1, BEGIN + 5 * DAY, 95.0))
    assert await stored(lane) == but(range(24), refused)
    await assert_nothing_waits(lane)


@pytest.mark.parametrize("at_once", [7, 1_000], ids="{}_at_once".format)
async def test_among_the_letters_of_a_late_registration(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    refused = [0, 1, 12, 19]
    refuse(monkeypatch, refused)
    monkeypatch.setattr(handler, "AT_ONCE", at_once)
    late = BEGIN + 5 * DAY
    await lane.feed([*working(5), registered(at=late), *working(1, late, 95.0)])
    await lane.look()
    assert await lane.rows("SELECT kind, status FROM command") == [("registration", "applied")]
    assert await stored(lane) == but(range(24), refused)
    assert await lane.rows(LETTERS) == [
        (number, "unknown_machine", "internal" if number in refused else "replayed") for number in range(20)
    ]
    why = await lane.rows("SELECT DISTINCT taken_up_why FROM dead_letter WHERE taken_up_as = 'internal'")
    assert why == [(WHY,)]
    await assert_nothing_waits(lane)


async def test_among_the_letters_that_a_person_wants_tried_again(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, [1, 3])
    await lane.feed([registered(), *working(1)])
    assert await lane.rows(LETTERS) == [(1, "internal", None), (3, "internal", None)]
    refuse(monkeypatch, [3])
    await lane.execute("UPDATE dead_letter SET requested_at = now()")
    await lane.look()
    assert await lane.rows(LETTERS) == [(1, "internal", "replayed"), (3, "internal", "internal")]
    assert await stored(lane) == [0, 2, 1]


async def test_a_letter_of_nobody_waits_for_its_parked_machine_and_holds_nobody_up(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refused it, so its row names no machine; that it is of a parked one is seen when it is tried again."""
    other = machine(machine_id="ZE215-000018")
    later = working(1, BEGIN + DAY, 55.0)
    theirs = Arrival(later[0].at, other.machine_id, working(1)[1].value.replace(M.encode(), other.machine_id.encode()))
    refuse(monkeypatch, [1])
    await lane.feed([registered(), registered(other), *working(1)])
    with deployed(of(M)):
        await lane.feed([theirs, *later])
    refuse(monkeypatch, [])
    await lane.execute("UPDATE parked_machine SET next_try_at = now() + interval '1 hour'")
    await lane.execute("UPDATE dead_letter SET requested_at = now() WHERE machine_id IS NULL")
    monkeypatch.setattr(handler, "AT_ONCE", 1)
    for _ in range(2):
        await lane.turn_once()
    letters = "SELECT n, machine_id, requested_at IS NOT NULL, taken_up_as FROM dead_letter ORDER BY topic_offset"
    [(n, *ours), (_, *of_the_other), (_, *first)] = await lane.rows(letters)
    assert (ours, of_the_other, first) == ([M, True, None], [None, False, "replayed"], [M, False, None])
    assert await lane._due() == frozenset()
    async with lane.engine.connect() as connection:
        [became] = await what_became(connection, [n])
    assert (became.status, became.tried_why) == ("behind", "excavator.pings:0:5")
    await lane.turn()
    assert await lane.rows(LETTERS) == [
        (1, "internal", "replayed"),
        (4, "internal", "replayed"),
        (5, "internal", "replayed"),
    ]
    assert await lane.rows(
        "SELECT hour_meter_ch FROM ping WHERE machine_id = :m ORDER BY apply_seq DESC LIMIT 1", m=M
    ) == [(ch(47.5),)]
    await assert_nothing_waits(lane)


async def test_a_letter_taken_up_again_ends_a_silence_if_it_was_received_after_the_last_ping(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 18 was received before the last ping, 40 some days after it, when the machine had been called silent."""
    refuse(monkeypatch, [18, 40])
    everything = working(11)
    await lane.feed([registered(), *everything[:20]])
    await lane.pass_time(everything[40].at)
    await lane.feed([everything[40]])
    silence = f"silence {everything[19].at:%Y-%m-%dT%H:%M:%S.000Z}"
    assert (await lane.facts(M))[-1] == f"{silence} opened"
    refuse(monkeypatch, [])
    for number, told in (18, f"{silence} opened"), (40, f"{silence} cleared"):
        await lane.execute(
            "UPDATE dead_letter SET requested_at = now() WHERE record_timestamp = :at", at=everything[number].at
        )
        await lane.look()
        assert [fact for fact in await lane.facts(M) if "silence" in fact][-1] == told
    assert await lane.rows("SELECT time FROM event WHERE rule = 'silence' AND stage = 'cleared'") == [
        (everything[40].at,)
    ]
    await assert_nothing_waits(lane)


async def test_while_the_breaker_is_open_no_record_answers_for_it(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, range(20))
    await lane.feed([registered()])
    with deployed(of(M)):
        await lane.feed(working(5))
    await lane.execute("UPDATE parked_machine SET next_try_at = now()")
    lane.handler._open()
    await lane.look()
    assert await lane.rows(LETTERS) == [(0, "internal", None)]
    assert await lane.rows("SELECT tries, next_try_at > now() + interval '20 s' FROM parked_machine") == [(1, True)]
    assert await lane.rows("SELECT count(*) FROM held_record") == [(19,)]


async def test_a_record_does_not_answer_for_the_tick_that_came_with_it(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_silence(connection: AsyncConnection, events: Sequence[Event]) -> None:
        if any(event.rule == "silence" for event in events):
            await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '21000'; END $$"))
        await raise_events(connection, events)

    monkeypatch.setattr(writing, "raise_events", no_silence)
    other = machine(machine_id="ZE215-000018")
    await lane.feed([registered(), registered(other), *working(5)])
    silent = BEGIN + 10 * DAY
    sent = Arrival(silent, other.machine_id, ping(silent, 50.0).value.replace(M.encode(), other.machine_id.encode()))
    await lane.batch([sent], tick=silent)
    assert await lane.rows("SELECT count(*) FROM ping WHERE machine_id <> :m", m=M) == [(1,)]
    assert await lane.rows(LETTERS) == []
    assert "silence" not in {fact.split()[0] for fact in await lane.facts(M)}


async def test_a_command_in_the_batch_of_its_registration_and_before_it_is_taken_up_after_it(lane: Lane) -> None:
    """As one that came in a batch before it: the contract speaks of the machine's dead letters, not of pings alone."""
    at = BEGIN + HOUR
    inspected = arrival(done(50, at), at)
    await lane.batch([inspected, registered(at=at), *working(1)])
    assert await lane.rows("SELECT topic, error_class, taken_up_as FROM dead_letter") == [
        ("excavator.commands", "unknown_machine", None)
    ]
    await lane.look()
    assert await lane.rows("SELECT error_class, taken_up_as FROM dead_letter") == [("unknown_machine", "replayed")]
    order = "SELECT apply_seq, kind FROM command UNION SELECT apply_seq, 'ping' FROM ping ORDER BY 1"
    assert [row[1] for row in await lane.rows(order)] == ["registration", "inspection_done", *["ping"] * 4]
    assert await lane.facts(M) == ["inspection 50 completed"]
    await assert_nothing_waits(lane)
