"""Slots: each once, whoever does it; and what only the passing of time decides, through a tick on the real broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.policies import load_policies
from telemetry_svc.rules import Policy
from telemetry_svc.schedule import Scheduler
from telemetry_svc.stream.kafka import KafkaSettings
from tests.ingest.pipeline import PARTITIONS, Pipeline, ping, running_pipeline

M = "ZE215-000017"


class StoppedClock:
    """Stands where it is put."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
async def pipeline(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> AsyncIterator[Pipeline]:
    policies = load_policies(None)
    async with running_pipeline(
        kafka, engine, {edition: hasty(policy) for edition, policy in policies.items()}
    ) as running:
        yield running


def hasty(policy: Policy) -> Policy:
    silence = replace(policy.silence, after=timedelta(seconds=2), min_span=timedelta(seconds=1))
    return replace(policy, silence=silence)


async def ticks(engine: AsyncEngine) -> list[tuple[int, datetime]]:
    async with engine.connect() as connection:
        query = text("SELECT partition, value FROM outbox WHERE topic = :topic")
        rows = await connection.execute(query, {"topic": topics.COMMANDS})
        return sorted((row[0], datetime.fromisoformat(json.loads(row[1])["slot"])) for row in rows)


async def test_two_schedulers_write_each_slot_once(engine: AsyncEngine, clean_database: None) -> None:
    first = datetime(2026, 11, 22, 23, 59, 59, 900_000, tzinfo=UTC)
    for minute in range(3):
        clock = StoppedClock(first + timedelta(minutes=minute))
        both = [Scheduler(engine, clock, PARTITIONS) for _ in range(2)]
        await asyncio.gather(*(scheduler.turn() for scheduler in both for _ in range(3)))
    slots = [datetime(2026, 11, 22, 23, 59, tzinfo=UTC) + timedelta(minutes=minute) for minute in range(3)]
    assert await ticks(engine) == sorted((number, slot) for number in range(PARTITIONS) for slot in slots)


async def test_a_scheduler_that_dies_in_its_slot_leaves_it_to_the_next(
    engine: AsyncEngine, clean_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StoppedClock(datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC))
    dying = Scheduler(engine, clock, PARTITIONS)

    async def killed(*_: object) -> None:
        raise ConnectionError("killed in its slot")

    monkeypatch.setattr(dying, "_work", killed)
    await dying.turn()
    assert await ticks(engine) == []
    await Scheduler(engine, clock, PARTITIONS).turn()
    assert len(await ticks(engine)) == PARTITIONS


async def test_told_to_end_amid_a_turn_it_finishes_that_turn(
    engine: AsyncEngine, clean_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(engine, StoppedClock(datetime.now(UTC)), PARTITIONS)
    work, begun, may_end, stop = scheduler._work, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_work(connection: AsyncConnection, now: datetime) -> None:
        begun.set()
        await may_end.wait()
        await work(connection, now)

    monkeypatch.setattr(scheduler, "_work", slow_work)
    running = asyncio.create_task(scheduler.run(stop))
    async with asyncio.timeout(20):
        await begun.wait()
        stop.set()
        await asyncio.sleep(0.2)
        assert not running.done()
        assert await ticks(engine) == []
        may_end.set()
        await running
    assert [number for number, _ in await ticks(engine)] == list(range(PARTITIONS))


async def test_silence_is_told_by_a_tick_and_only_once_its_pings_are_read(
    pipeline: Pipeline, engine: AsyncEngine
) -> None:
    """The policy's 72 h as two seconds: three pings over a second, then nothing."""
    await pipeline.register(M)
    await pipeline.settle()
    for second in range(3):
        await pipeline.produce(topics.PINGS, M, ping(M, f"2026-11-20T04:20:3{second}Z", engine_running=False))
        await asyncio.sleep(0.6)
    await pipeline.settle()
    await Scheduler(engine, StoppedClock(datetime.now(UTC)), PARTITIONS).turn()
    await pipeline.settle()
    assert await told(pipeline) == []
    await asyncio.sleep(2)
    await Scheduler(engine, StoppedClock(datetime.now(UTC) + timedelta(minutes=1)), PARTITIONS).turn()
    await pipeline.settle()
    async with asyncio.timeout(10):
        while not await told(pipeline):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
    assert await told(pipeline) == [("silence", "2026-11-20T04:20:32.000Z", "opened")]
    last = await pipeline.rows("SELECT max(received_at) FROM ping")
    assert await pipeline.rows("SELECT time FROM event") == [(last[0][0] + timedelta(seconds=2),)]


async def told(pipeline: Pipeline) -> list[tuple[str, str, str]]:
    return await pipeline.rows("SELECT rule, subject, stage FROM event ORDER BY n")
