"""A defect in the rules, on the real broker and database: of one machine, of all, and mended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.codec import command as command_codec
from telemetry_svc.ingest import writing
from telemetry_svc.ingest.breaker import BreakerLimits
from telemetry_svc.policies import load_policies
from telemetry_svc.replay import Asked, Replayed, replay_machine
from telemetry_svc.store.dead_letter_list import LetterFilter, want_again
from telemetry_svc.store.states import StateRow, save_states
from telemetry_svc.stream.kafka import KafkaSettings, partition_of
from telemetry_svc.telemetry import InspectionDone, MachineId
from tests.ingest.failing import deployed, every_reading, of
from tests.ingest.pipeline import PARTITIONS, Pipeline, ping, running_pipeline

M, OTHER = "ZE215-000017", "ZE215-000018"
SOON = BreakerLimits(try_every_s=0.3)
BEGIN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=3)


@pytest.fixture
async def pipeline(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> AsyncIterator[Pipeline]:
    async with running_pipeline(kafka, engine, limits=SOON) as running:
        yield running


def reading(machine_id: str, number: int) -> bytes:
    """The hour meter from 45 h on, one reading an hour."""
    return ping(machine_id, (BEGIN + timedelta(hours=number)).isoformat(), hour_meter_h=45 + number, sequence=number)


def inspected(machine_id: str, at: datetime) -> bytes:
    return command_codec.encode(InspectionDone(uuid4(), MachineId(machine_id), at, at, milestone_h=50))


def place(machine_id: str) -> int:
    """The partition of its records."""
    return partition_of(machine_id.encode(), PARTITIONS)


async def send(pipeline: Pipeline, *machines: str, numbers: range) -> None:
    for number in numbers:
        for machine_id in machines:
            await pipeline.produce(topics.PINGS, machine_id, reading(machine_id, number), headers=[("trace", None)])


async def until(holds: Callable[[], Awaitable[object]], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)


async def nothing_parked(pipeline: Pipeline) -> bool:
    return await pipeline.rows("SELECT count(*) FROM parked_machine") == [(0,)]


async def facts(pipeline: Pipeline, machine_id: str) -> list[Any]:
    """What is known of a machine, but for its name."""
    what = "rule, subject, stage, time, body -> 'data' ->> 'true_hours_h'"
    return await pipeline.rows(f"SELECT {what} FROM event WHERE machine_id = :m ORDER BY n", m=machine_id)


async def sequences(pipeline: Pipeline, machine_id: str) -> list[int]:
    """Of the stored pings, in the order in which they were decided."""
    rows = await pipeline.rows("SELECT sequence FROM ping WHERE machine_id = :m ORDER BY apply_seq", m=machine_id)
    return [row[0] for row in rows]


async def assert_a_replay_agrees(pipeline: Pipeline, machine_id: str) -> None:
    asked = Asked(since=BEGIN - timedelta(days=1), now=datetime.now(UTC), policies=load_policies(), dry_run=True)
    outcome = await replay_machine(pipeline.engine, MachineId(machine_id), asked)
    assert isinstance(outcome, Replayed), outcome
    assert not [*outcome.verdict.new, *outcome.verdict.missing]


def gauge(pipeline: Pipeline, name: str) -> float | None:
    return pipeline.registry.get_sample_value(f"telemetry_{name}")


async def test_a_machine_whose_record_fails_waits_alone_and_then_has_the_life_it_would_have_had(
    pipeline: Pipeline, kafka: KafkaSettings, engine: AsyncEngine
) -> None:
    for machine_id in (M, OTHER):
        await pipeline.register(machine_id)
    await send(pipeline, M, OTHER, numbers=range(3))
    await pipeline.settle()
    with deployed(of(M)) as deploy:
        await send(pipeline, M, OTHER, numbers=range(3, 7))
        await pipeline.settle()
        for machine_id in (M, OTHER):
            await pipeline.produce(topics.COMMANDS, machine_id, inspected(machine_id, BEGIN + timedelta(hours=6)))
        await pipeline.settle()
        await send(pipeline, M, OTHER, numbers=range(7, 10))
        await pipeline.settle()
        assert await sequences(pipeline, M) == [0, 1, 2]
        assert await sequences(pipeline, OTHER) == list(range(10))
        assert await pipeline.rows("SELECT error_class, machine_id, taken_up_as FROM dead_letter") == [
            ("internal", M, None)
        ]
        assert await pipeline.rows("SELECT count(*) FROM held_record WHERE machine_id = :m", m=M) == [(7,)]
        assert pipeline.member.held is None
        await until(lambda: tried(pipeline, 2))
        deploy.mend()
        await until(lambda: nothing_parked(pipeline))
    await pipeline.settle()
    assert await sequences(pipeline, M) == list(range(10))
    assert await facts(pipeline, M) == await facts(pipeline, OTHER)
    assert len(await facts(pipeline, M)) > 2
    assert await pipeline.rows("SELECT error_class, taken_up_as FROM dead_letter") == [("internal", "replayed")]
    assert await pipeline.rows("SELECT count(*) FROM held_record") == [(0,)]
    assert await pipeline.rows("SELECT status, count(*) FROM command WHERE kind <> 'registration' GROUP BY 1") == [
        ("applied", 2)
    ]
    for machine_id in (M, OTHER):
        await assert_a_replay_agrees(pipeline, machine_id)


async def tried(pipeline: Pipeline, times: int) -> bool:
    [(tries,)] = await pipeline.rows("SELECT tries FROM parked_machine")
    return bool(tries >= times)


async def test_what_is_held_survives_a_restart(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> None:
    with deployed(of(M)) as deploy:
        async with running_pipeline(kafka, engine, limits=SOON) as first:
            await first.register(OTHER)
            await first.register(M)
            await first.settle()
            assert await first.rows("SELECT topic, error_class FROM dead_letter") == [(topics.COMMANDS, "internal")]
            await send(first, M, OTHER, numbers=range(3))
            await first.settle()
        async with running_pipeline(kafka, engine, limits=SOON) as second:
            await send(second, M, OTHER, numbers=range(3, 8))
            await second.settle()
            assert await second.rows("SELECT count(*) FROM held_record") == [(8,)]
            deploy.mend()
            await until(lambda: nothing_parked(second))
            assert await sequences(second, M) == list(range(8))
            assert await facts(second, M) == await facts(second, OTHER)
            assert await second.rows("SELECT taken_up_as FROM dead_letter") == [("replayed",)]
            await assert_a_replay_agrees(second, M)


async def test_a_second_record_that_fails_parks_the_machine_behind_itself(pipeline: Pipeline) -> None:
    await pipeline.register(M)
    await pipeline.settle()
    wrong = {45 * 100, 47 * 100}
    with deployed(lambda _, given: getattr(getattr(given, "ping", None), "hour_meter_ch", None) in wrong) as deploy:
        await send(pipeline, M, numbers=range(5))
        await pipeline.settle()
        assert await sequences(pipeline, M) == []
        wrong.remove(45 * 100)
        await until(lambda: two_letters(pipeline))
        assert await sequences(pipeline, M) == [0, 1]
        assert await pipeline.rows("SELECT count(*) FROM held_record") == [(2,)]
        deploy.mend()
        await until(lambda: nothing_parked(pipeline))
    assert await sequences(pipeline, M) == list(range(5))
    assert await pipeline.rows("SELECT taken_up_as FROM dead_letter ORDER BY topic_offset") == [("replayed",)] * 2


async def two_letters(pipeline: Pipeline) -> bool:
    return await pipeline.rows("SELECT count(*) FROM dead_letter") == [(2,)]


async def test_a_bad_deploy_opens_the_breaker_and_closes_it_by_itself(pipeline: Pipeline) -> None:
    fleet = [f"ZE215-{number:06}" for number in range(40)]
    for machine_id in fleet:
        await pipeline.register(machine_id)
    await send(pipeline, *fleet, numbers=range(1))
    await pipeline.settle()
    with deployed(every_reading) as deploy:
        sent = [(one, number) for number in range(1, 26) for one in fleet]
        await asyncio.gather(*(pipeline.produce(topics.PINGS, one, reading(one, n)) for one, n in sent))
        await until(lambda: is_open(pipeline))
        assert (pipeline.member.held or "").startswith("the breaker is open")
        tried_before = len(deploy.failed)
        await until(lambda: more_than(deploy.failed, tried_before + 2))
        assert set(pipeline.member.owned) == set(range(PARTITIONS))
        [(letters,)] = await pipeline.rows("SELECT count(*) FROM dead_letter")
        assert letters <= len(fleet)
        assert await pipeline.rows("SELECT count(*) FROM ping") == [(len(fleet),)]
        deploy.mend()
        await until(lambda: is_closed(pipeline))
    await pipeline.settle()
    await until(lambda: nothing_parked(pipeline))
    assert await pipeline.rows("SELECT count(*) FROM ping") == [(len(fleet) * 26,)]
    assert await pipeline.rows("SELECT count(*) FROM held_record") == [(0,)]
    assert set(await pipeline.rows("SELECT error_class, taken_up_as FROM dead_letter")) <= {("internal", "replayed")}
    lives = [await facts(pipeline, machine_id) for machine_id in fleet]
    assert lives == [lives[0]] * len(fleet)
    assert [await sequences(pipeline, machine_id) for machine_id in fleet] == [list(range(26))] * len(fleet)
    assert gauge(pipeline, "breaker_opened_total") == 1


async def test_a_fleet_that_catches_up_is_no_bad_deploy(pipeline: Pipeline) -> None:
    """Registered late, with more to catch up than a turn takes: what comes meanwhile waits, and nothing has failed."""
    fleet = [name for number in range(1_000) if place(name := f"ZE215-{number:06}") == place(M)][:30]
    healthy = next(name for number in range(1_000) if place(name := f"ZE75-{number:06}") != place(M))
    await pipeline.register(healthy)
    early = [(one, number) for number in range(60) for one in fleet]
    await asyncio.gather(*(pipeline.produce(topics.PINGS, one, reading(one, n)) for one, n in early))
    await pipeline.settle()
    commands = asyncio.gather(*(pipeline.register(one) for one in fleet))
    late = [(one, number) for number in range(60, 80) for one in fleet]
    await asyncio.gather(*(pipeline.produce(topics.PINGS, one, reading(one, n)) for one, n in late), commands)
    await send(pipeline, healthy, numbers=range(3))
    await pipeline.settle()
    await until(lambda: nothing_parked(pipeline))
    await until(lambda: all_stored(pipeline, len(early) + len(late) + 3))
    assert [await sequences(pipeline, one) for one in fleet] == [list(range(80))] * len(fleet)
    assert not gauge(pipeline, "breaker_opened_total")


async def more_than(failed: list[str], count: int) -> bool:
    return len(failed) > count


async def is_open(pipeline: Pipeline) -> bool:
    return gauge(pipeline, "breaker_open") == 1


async def is_closed(pipeline: Pipeline) -> bool:
    return gauge(pipeline, "breaker_open") == 0


async def test_the_batch_that_opens_the_breaker_leaves_nothing_behind(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> None:
    fleet = [f"ZE215-{number:06}" for number in range(200)]
    never = BreakerLimits(try_every_s=3_600)
    async with running_pipeline(kafka, engine, limits=never) as pipeline:
        await asyncio.gather(*(pipeline.register(one) for one in fleet))
        await pipeline.settle()
    async with running_pipeline(kafka, engine, limits=never) as pipeline:
        with deployed(every_reading):
            await asyncio.gather(
                *(pipeline.produce(topics.PINGS, one, reading(one, n)) for n in range(5) for one in fleet)
            )
            await until(lambda: is_open(pipeline))
            [(letters,)] = await pipeline.rows("SELECT count(*) FROM dead_letter")
            assert letters < 100
            await asyncio.sleep(0.5)
            assert await pipeline.rows("SELECT count(*) FROM dead_letter") == [(letters,)]
            assert await pipeline.rows("SELECT count(*) FROM parked_machine") == [(letters,)]


async def test_poison_amid_healthy_partitions_costs_one_letter(pipeline: Pipeline) -> None:
    fleet = [f"ZE215-{number:06}" for number in range(24)]
    for machine_id in fleet:
        await pipeline.register(machine_id)
    await pipeline.settle()
    with deployed(of(fleet[5])):
        failing = await pipeline.produce(topics.PINGS, fleet[5], reading(fleet[5], 0))
        healthy = [one for one in fleet if one != fleet[5]]
        await send(pipeline, *healthy, numbers=range(1))
        await send(pipeline, *fleet, numbers=range(1, 4))
        poison = await pipeline.produce(topics.PINGS, fleet[6], b"\xff\x00 no JSON")
        await send(pipeline, *fleet, numbers=range(4, 6))
        await pipeline.settle()
        assert [await sequences(pipeline, one) for one in healthy] == [list(range(6))] * 23
        letters = await pipeline.rows("SELECT error_class, partition, topic_offset FROM dead_letter ORDER BY 1")
        assert letters == [("internal", place(fleet[5]), failing), ("malformed", place(fleet[6]), poison)]


async def test_a_statement_that_fails_at_every_record_opens_the_breaker(
    pipeline: Pipeline, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLSTATE 21000 at every state that is written: cut down to the record, as far as the breaker lets it."""
    fleet = [f"ZE215-{number:06}" for number in range(40)]
    for machine_id in fleet:
        await pipeline.register(machine_id)
    await pipeline.settle()

    async def refused(connection: AsyncConnection, rows: Sequence[StateRow], *, new: bool) -> None:
        if rows and broken:
            await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '21000'; END $$"))
        await save_states(connection, rows, new=new)

    broken = True
    monkeypatch.setattr(writing, "save_states", refused)
    sent = [(one, number) for number in range(10) for one in fleet]
    await asyncio.gather(*(pipeline.produce(topics.PINGS, one, reading(one, n)) for one, n in sent))
    await until(lambda: is_open(pipeline))
    assert (pipeline.member.held or "").startswith("the breaker is open")
    broken = False
    await until(lambda: is_closed(pipeline))
    await pipeline.settle()
    [(letters,)] = await pipeline.rows("SELECT count(*) FROM dead_letter WHERE error_class = 'internal'")
    assert 0 < letters < 120
    assert await pipeline.rows("SELECT count(*) FROM ping") == [(len(sent) - letters,)]
    async with engine.begin() as connection:
        wanted = await want_again(connection, LetterFilter(error_class="internal"))
    assert len(wanted.requested) == letters
    await until(lambda: all_stored(pipeline, len(sent)))
    assert await pipeline.rows("SELECT DISTINCT taken_up_as FROM dead_letter") == [("replayed",)]


async def all_stored(pipeline: Pipeline, count: int) -> bool:
    return await pipeline.rows("SELECT count(*) FROM ping") == [(count,)]


async def test_a_machine_whose_state_cannot_be_read_is_parked_alone(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> None:
    """As after going back to a version that knows the state in another form."""
    async with running_pipeline(kafka, engine, limits=SOON) as first:
        for machine_id in (M, OTHER):
            await first.register(machine_id)
        await send(first, M, OTHER, numbers=range(3))
        await first.settle()
    async with engine.begin() as connection:
        swap = "UPDATE machine_state SET state = convert_to(replace(convert_from(state, 'UTF8'), :a, :b), 'UTF8')"
        values = {"a": '"machine":', "b": '"from_the_future":', "m": M}
        await connection.execute(text(f"{swap} WHERE machine_id = :m"), values)
    async with running_pipeline(kafka, engine, limits=SOON) as second:
        await send(second, M, OTHER, numbers=range(3, 6))
        await second.register(M)
        await second.settle()
        assert await sequences(second, OTHER) == list(range(6))
        assert await second.rows("SELECT machine_id, reason FROM parked_machine") == [
            (M, "the machine's stored state cannot be read")
        ]
        async with engine.begin() as connection:
            await connection.execute(
                text(f"{swap} WHERE machine_id = :m"), values | {"a": values["b"], "b": values["a"]}
            )
        await until(lambda: nothing_parked(second))
        assert await sequences(second, M) == list(range(6))
        assert await facts(second, M) == await facts(second, OTHER)
