"""Backpressure: what is behind holds reading back, Kafka keeps the rest, and the group keeps its member."""

from collections.abc import Collection

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.outbox import OutboxMessage, enqueue, mark_sent
from telemetry_svc.stream.batch import Batch
from telemetry_svc.stream.metrics import outbox_waiting
from telemetry_svc.stream.pressure import Pressure
from tests.stream.rig import PARTITIONS, Member, Probe, Rig, until

BEHIND = "too many rows wait in the outbox"


class Brake:
    """A reason that the test sets."""

    reason: str | None = None

    def __call__(self) -> str | None:
        return self.reason


async def waiting(engine: AsyncEngine, rows: int) -> None:
    """So many rows wait in the outbox, and no others."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM outbox"))
        await enqueue(connection, [OutboxMessage("somewhere", b"k", b"v")] * rows)


async def test_reading_stops_above_the_high_mark_and_goes_on_below_the_low_one(
    engine: AsyncEngine, clean_database: None
) -> None:
    registry = CollectorRegistry()
    pressure = Pressure(engine, outbox_waiting(registry), high_rows=10, low_rows=5)
    told = []
    for rows in (10, 11, 12, 6, 5, 10, 11, 0):
        await waiting(engine, rows)
        await pressure.look()
        told.append((rows, pressure.reason))
    assert told == [(10, None), (11, BEHIND), (12, BEHIND), (6, BEHIND), (5, None), (10, None), (11, BEHIND), (0, None)]
    assert registry.get_sample_value("telemetry_outbox_waiting") == 0


async def test_rows_that_were_sent_or_parked_are_not_behind(engine: AsyncEngine, clean_database: None) -> None:
    pressure = Pressure(engine, outbox_waiting(CollectorRegistry()), high_rows=2, low_rows=1)
    await waiting(engine, 4)
    async with engine.begin() as connection:
        ids = list(await connection.scalars(text("SELECT id FROM outbox ORDER BY id")))
        await mark_sent(connection, ids[:1])
        await connection.execute(text("UPDATE outbox SET parked_reason = 'too large' WHERE id = :id"), {"id": ids[1]})
    await pressure.look()
    assert pressure.reason is None


async def test_a_database_that_does_not_answer_holds_reading_back(engine: AsyncEngine, unused_port: int) -> None:
    away = create_engine(f"postgresql://nobody@127.0.0.1:{unused_port}/x", application_name="tests")
    pressure = Pressure(away, outbox_waiting(CollectorRegistry()))
    await pressure.look()
    assert pressure.reason == "the database does not answer"
    await away.dispose()


async def test_nothing_is_stored_while_held_back_and_nothing_is_missing_afterwards(rig: Rig) -> None:
    brake = Brake()
    async with rig.member(held_back=brake) as member:
        await rig.produce(0, b"before")
        await rig.until_all_seen()
        brake.reason = BEHIND
        await until(lambda: member.consumer.held == BEHIND)
        assert gauge(member, "reading_paused") == 1
        await rig.produce(1, *(b"w%d" % number for number in range(50)))
        await until(lambda: paused(member) == 2 * PARTITIONS)
        assert len(await rig.seen()) == 1
        assert len(member.consumer.owned) == PARTITIONS, "it keeps what it owns"
        brake.reason = None
        rows = await rig.until_all_seen()
        assert (member.consumer.held, gauge(member, "reading_paused")) == (None, 0)
    rig.assert_exactly_once(rows)


async def test_the_pause_is_in_force_again_after_a_rebalance(rig: Rig) -> None:
    brake = Brake()
    brake.reason = BEHIND
    await rig.produce(0, b"v")
    await rig.produce(3, b"v")
    async with rig.member(held_back=brake) as first:
        await until(lambda: len(first.consumer.wanted) == PARTITIONS)
        async with rig.member(held_back=brake) as second:
            await until(lambda: {len(one.consumer.wanted) for one in (first, second)} == {PARTITIONS // 2})
            await until(lambda: [paused(one) for one in (first, second)] == [PARTITIONS, PARTITIONS])
            assert await rig.seen() == []
        await until(lambda: len(first.consumer.wanted) == PARTITIONS)
        await until(lambda: paused(first) == 2 * PARTITIONS)
        assert await rig.seen() == []
        brake.reason = None
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)


class Counting(Probe):
    """Counts the records that were handed out and are not stored yet."""

    held = 0
    most = 0

    async def prepare(self, batch: Batch) -> tuple[Batch, dict[int, int]]:
        self.held += batch.size
        self.most = max(self.most, self.held)
        return await super().prepare(batch)

    def committed(self, work: tuple[Batch, dict[int, int]]) -> None:
        self.held -= work[0].size
        super().committed(work)


@pytest.mark.parametrize("partitions", [[0], [0, 1, 2, 3]])
async def test_whatever_the_lag_two_batches_are_held(rig: Rig, partitions: Collection[int]) -> None:
    for number in partitions:
        await rig.produce(number, *(b"v%d" % value for value in range(4_000 // len(partitions))))
    probe = Counting(rig.group)
    async with rig.member(probe=probe, max_records=100):
        rows = await rig.until_all_seen(60)
    rig.assert_exactly_once(rows)
    assert 100 <= probe.most <= 200  # one batch being stored, and at most one read ahead


async def test_a_slow_transaction_is_outwaited_with_a_poll_now_and_then(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a batch that is taken apart record by record could cost the member its place in the group."""
    monkeypatch.setattr("telemetry_svc.stream.holding.SLOW_STORE_S", 0.05)
    probe = Probe(rig.group)
    async with rig.member(probe=probe) as member:
        await until(lambda: len(member.consumer.owned) == PARTITIONS)
        polled = []

        async def slowly(*_: object) -> None:
            await rig.produce(1, b"while it is stored")
            await until(lambda: paused(member) == 2 * PARTITIONS)
            polled.append(member.consumer._consumer._subscription.fetcher_idle_time)
            probe.inside = None

        probe.inside = slowly
        await rig.produce(0, b"v")
        rows = await rig.until_all_seen()
        await until(lambda: paused(member) == 0)
    assert len(rows) == 2
    assert max(polled) < 1
    rig.assert_exactly_once(rows)


def paused(member: Member) -> int:
    """Topic partitions that aiokafka fetches nothing of."""
    found: set[TopicPartition] = member.consumer._consumer._subscription.paused_partitions()
    return len(found)


def gauge(member: Member, name: str) -> float | None:
    return member.registry.get_sample_value(f"telemetry_{name}", {"group": member.probe.team})
