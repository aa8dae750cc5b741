"""Slots: each once, whoever does it, one leader at a time; and what only time decides, through the real broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.policies import load_policies
from telemetry_svc.rules import Policy
from telemetry_svc.schedule import LEASE_NAME, LEASE_S, ScheduleMetrics, Scheduler
from telemetry_svc.store import lease as leases
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.lease import LeaseLostError
from telemetry_svc.store.slots import DROPPED_AT_ONCE
from telemetry_svc.stream.kafka import KafkaSettings
from tests.ingest.pipeline import PARTITIONS, Pipeline, ping, running_pipeline

M = "ZE215-000017"
NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class HandClock:
    """Stands where it is put; both of its hands are moved together."""

    def __init__(self, now: datetime) -> None:
        self.at = now
        self.monotonic = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return self.monotonic

    def move(self, by: timedelta) -> None:
        self.at += by
        self.monotonic += by.total_seconds()


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


async def slots(engine: AsyncEngine, schedule: str = "tick") -> list[datetime]:
    async with engine.connect() as connection:
        query = text("SELECT slot FROM schedule_slot WHERE schedule = :schedule ORDER BY slot")
        return list(await connection.scalars(query, {"schedule": schedule}))


async def runs_out(engine: AsyncEngine) -> None:
    """The leader's time is over by PostgreSQL's clock, whatever the leader believes."""
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE schedule_lease SET expires_at = clock_timestamp()"))


async def term(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT term FROM schedule_lease"))).scalar_one())


async def killed(*_: object) -> None:
    raise ConnectionError("killed in its slot")


def dying(scheduler: Scheduler) -> Scheduler:
    """Ends in the work of each slot, before its transaction does."""
    scheduler.schedules = tuple(replace(schedule, work=killed) for schedule in scheduler.schedules)
    return scheduler


async def test_two_schedulers_write_each_slot_once(engine: AsyncEngine, clean_database: None) -> None:
    clock = HandClock(datetime(2026, 11, 22, 23, 59, 59, 900_000, tzinfo=UTC))
    both = [Scheduler(engine, clock, PARTITIONS) for _ in range(2)]
    for _ in range(3):
        await asyncio.gather(*(scheduler.turn() for scheduler in both for _ in range(3)))
        clock.at += MINUTE
    expected = [datetime(2026, 11, 22, 23, 59, tzinfo=UTC) + minute * MINUTE for minute in range(3)]
    assert await ticks(engine) == sorted((number, slot) for number in range(PARTITIONS) for slot in expected)
    assert await slots(engine, "clearing") == expected
    assert await slots(engine, "weeks") == [expected[0].replace(minute=0), expected[1]]
    assert await term(engine) == 1


async def test_of_two_hundred_slots_none_is_missing_though_one_is_killed_at_each(
    engine: AsyncEngine, clean_database: None
) -> None:
    """Each leader dies in its slot without a word; its successor begins when the lease has run out (faults.md, 21)."""
    clock = HandClock(NOON)
    for _ in range(200):
        await dying(Scheduler(engine, clock, 1)).turn()
        assert len(await slots(engine)) == (clock.at - NOON) // MINUTE, "it wrote nothing"
        await runs_out(engine)
        both = [Scheduler(engine, clock, 1) for _ in range(2)]
        await asyncio.gather(*(scheduler.turn() for scheduler in both))
        await runs_out(engine)
        clock.at += MINUTE
    expected = [NOON.replace(second=0) + number * MINUTE for number in range(200)]
    assert await slots(engine) == expected
    assert await ticks(engine) == [(0, slot) for slot in expected]


async def test_a_scheduler_that_waits_does_nothing_until_the_lease_is_free(
    engine: AsyncEngine, clean_database: None
) -> None:
    clock = HandClock(NOON)
    leader, waiting = Scheduler(engine, clock, 1), Scheduler(engine, clock, 1)
    await leader.turn()
    clock.at += MINUTE
    await waiting.turn()
    assert len(await slots(engine)) == 1
    await leader.retire()
    await waiting.turn()
    assert len(await slots(engine)) == 2
    assert await term(engine) == 2


async def test_a_loop_that_was_stalled_steps_down_and_does_its_slot_once_late(
    engine: AsyncEngine, clean_database: None
) -> None:
    """Ten seconds across a slot, and the lease with them (faults.md, 22): another term, one row, lateness measured."""
    registry = CollectorRegistry()
    clock = HandClock(NOON.replace(second=55))
    scheduler = Scheduler(engine, clock, 1, metrics=ScheduleMetrics(registry), lease_s=10)
    await scheduler.turn()
    clock.move(timedelta(seconds=10))
    assert scheduler._leadership.lease is None, "its own clock says so, before anything is asked"
    await scheduler.turn()
    await scheduler.turn()
    assert await slots(engine) == [NOON.replace(second=0), NOON.replace(minute=1, second=0)]
    assert await term(engine) == 2
    values = registry.get_sample_value
    assert values("telemetry_schedule_slots_total", {"schedule": "tick"}) == 2
    assert values("telemetry_schedule_lateness_seconds_sum", {"schedule": "tick"}) == 55 + 5
    assert values("telemetry_schedule_leads") == 1


async def test_of_slots_missed_while_nobody_ran_only_the_newest_is_done(
    engine: AsyncEngine, clean_database: None
) -> None:
    clock = HandClock(NOON)
    await Scheduler(engine, clock, 1).turn()
    await runs_out(engine)
    clock.at += timedelta(hours=7)
    registry = CollectorRegistry()
    await Scheduler(engine, clock, 1, metrics=ScheduleMetrics(registry)).turn()
    assert await slots(engine) == [NOON.replace(second=0), NOON.replace(hour=19, second=0)]
    assert await slots(engine, "weeks") == [NOON.replace(minute=0, second=0), NOON.replace(hour=19, second=0)]


async def test_an_hourly_slot_that_was_missed_is_done_late_and_measured(
    engine: AsyncEngine, clean_database: None
) -> None:
    registry = CollectorRegistry()
    await Scheduler(engine, HandClock(NOON.replace(minute=40)), 1, metrics=ScheduleMetrics(registry)).turn()
    assert await slots(engine, "weeks") == [NOON.replace(minute=0, second=0)]
    late_s = registry.get_sample_value("telemetry_schedule_lateness_seconds_sum", {"schedule": "weeks"})
    assert late_s == 40 * 60 + 30


@pytest.mark.parametrize(("a_statement_s", "turns"), [(0.0, 1), (LEASE_S / 3, 3)])
async def test_sent_rows_are_cleared_up_as_fast_as_they_come(
    engine: AsyncEngine, clean_database: None, a_statement_s: float, turns: int
) -> None:
    """Three times what one statement drops: in one turn, or in the next ones of the same slot where each takes long."""
    clock = HandClock(NOON)
    scheduler = Scheduler(engine, clock, 1)
    async with engine.begin() as connection:
        await connection.execute(_SENT, {"rows": 3 * DROPPED_AT_ONCE - 1, "sent_at": NOON - timedelta(days=2)})
        await connection.execute(_SENT, {"rows": 1, "sent_at": NOON - timedelta(hours=23)})
    clearing = scheduler.schedules[2]
    left: list[bool] = []

    async def slow(connection: AsyncConnection, slot: datetime, now: datetime) -> bool:
        left.append(await clearing.work(connection, slot, now))
        clock.monotonic += a_statement_s
        return left[-1]

    scheduler.schedules = (replace(clearing, work=slow),)
    for done in range(turns):
        assert left == [True] * done
        await scheduler.turn()
    assert left == [True, True, False]
    await scheduler.turn()
    assert len(left) == 3, "a slot that is done is done"
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM outbox")) == 1


_SENT = text("INSERT INTO outbox (bucket, topic, sent_at) SELECT 0, 't', :sent_at FROM generate_series(1, :rows)")


async def test_a_leader_whose_session_is_killed_steps_down_before_its_next_write(
    engine: AsyncEngine, clean_database: None, database_url: str
) -> None:
    """Its process lives, and by its own clock it leads still (faults.md, 23)."""
    clock = HandClock(NOON)
    own = create_engine(database_url, application_name="the-leader", pool_size=1)
    leader = Scheduler(own, clock, 1)
    terms: list[int] = []
    work = leader.schedules[0].work

    async def cut(connection: Any, slot: datetime, now: datetime) -> None:
        terms.append(await term(engine))
        if len(terms) == 1:
            async with engine.begin() as other:
                query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'the-leader'"
                await other.execute(text(query))
        await work(connection, slot, now)

    leader.schedules = (replace(leader.schedules[0], work=cut), *leader.schedules[1:])
    await leader.turn()
    assert leader._leadership.lease is None
    assert await slots(engine) == []
    assert await slots(engine, "clearing") == [], "nothing was written after it"
    await leader.turn()
    assert await slots(engine) == [NOON.replace(second=0)]
    assert terms == [1, 2]
    assert await ticks(engine) == [(0, NOON.replace(second=0))]
    await own.dispose()


async def test_a_leader_that_was_outrun_in_its_sleep_writes_nothing(engine: AsyncEngine, clean_database: None) -> None:
    """It slept between asking for the lease and its write; by its own clock no second has passed."""
    clock = HandClock(NOON)
    sleeper, successor = Scheduler(engine, clock, 1), Scheduler(engine, clock, 2)
    lease = await sleeper._leadership.seek()
    assert lease is not None
    await runs_out(engine)
    await successor.turn()
    clock.at += MINUTE
    with pytest.raises(LeaseLostError, match="term 1"):
        await sleeper._do(sleeper.schedules[0])
    assert await slots(engine) == [NOON.replace(second=0)]


async def test_a_lease_does_not_change_hands_under_a_write(engine: AsyncEngine, clean_database: None) -> None:
    """The term was right when the write began: until it ends nobody else leads, though the time is over."""
    async with engine.begin() as connection:
        lease = await leases.take(connection, LEASE_NAME, uuid4(), 0.05)
        assert lease is not None
    async with engine.connect() as writing, writing.begin():
        async with engine.begin() as connection:
            assert await leases.renew(connection, lease, LEASE_S)
        await leases.hold(writing, lease)
        async with engine.connect() as other, other.begin():
            await other.execute(text("SET LOCAL lock_timeout = '100ms'"))
            with pytest.raises(Exception, match="lock timeout"):
                await other.execute(text("UPDATE schedule_lease SET expires_at = '-infinity'"))
    async with engine.begin() as connection:
        await leases.release(connection, lease)
        again = await leases.take(connection, LEASE_NAME, uuid4(), LEASE_S)
        assert again is not None
        assert again.term == 2
        assert not await leases.renew(connection, lease, LEASE_S)


async def test_a_slot_that_fails_is_tried_again_at_the_next_turn(engine: AsyncEngine, clean_database: None) -> None:
    clock = HandClock(NOON)
    scheduler = Scheduler(engine, clock, PARTITIONS)
    schedules = scheduler.schedules
    await dying(scheduler).turn()
    assert await ticks(engine) == []
    scheduler.schedules = schedules
    await scheduler.turn()
    assert len(await ticks(engine)) == PARTITIONS


async def test_at_its_end_it_lets_another_one_lead(engine: AsyncEngine, clean_database: None) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(Scheduler(engine, HandClock(NOON), 1).run(stop))
    async with asyncio.timeout(10):
        while not await slots(engine, "clearing"):  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.02)
    stop.set()
    await running
    async with engine.begin() as connection:
        assert await leases.take(connection, LEASE_NAME, uuid4(), LEASE_S) is not None


async def test_told_to_end_amid_a_turn_it_finishes_that_turn(engine: AsyncEngine, clean_database: None) -> None:
    scheduler = Scheduler(engine, HandClock(NOON), PARTITIONS)
    begun, may_end, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tick = scheduler.schedules[0]

    async def slow_work(connection: AsyncConnection, slot: datetime, now: datetime) -> None:
        begun.set()
        await may_end.wait()
        await tick.work(connection, slot, now)

    scheduler.schedules = (replace(tick, work=slow_work),)
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
    clock = HandClock(datetime.now(UTC))
    scheduler = Scheduler(engine, clock, PARTITIONS)
    await scheduler.turn()
    await pipeline.settle()
    assert await told(pipeline) == []
    await asyncio.sleep(2)
    clock.at += MINUTE
    await scheduler.turn()
    await pipeline.settle()
    async with asyncio.timeout(10):
        while not await told(pipeline):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
    assert await told(pipeline) == [("silence", "2026-11-20T04:20:32.000Z", "opened")]
    last = await pipeline.rows("SELECT max(received_at) FROM ping")
    assert await pipeline.rows("SELECT time FROM event") == [(last[0][0] + timedelta(seconds=2),)]


async def told(pipeline: Pipeline) -> list[tuple[str, str, str]]:
    return await pipeline.rows("SELECT rule, subject, stage FROM event ORDER BY n")
