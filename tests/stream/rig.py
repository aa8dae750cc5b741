"""A consumer group of its own on the real broker and database, with a handler that writes down what it is given.

Nothing is remembered outside PostgreSQL but a cache of counts, as ingest caches states: where a member used it after it
had lost the partition, or after a rollback, `nth` would show it.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.stream.batch import Batch
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.metrics import ConsumerFamilies, ConsumerMetrics

PARTITIONS = 4
POISON = b"po\0ison"
"""A value that PostgreSQL's text does not take."""

SCHEMA = """
    CREATE SCHEMA IF NOT EXISTS probe;
    CREATE TABLE IF NOT EXISTS probe.seen (
        n bigint GENERATED ALWAYS AS IDENTITY, team text NOT NULL, topic text NOT NULL, partition int NOT NULL,
        topic_offset bigint NOT NULL, value text, apply_seq bigint NOT NULL, nth bigint NOT NULL, epoch bigint NOT NULL,
        poison text)
"""
_ADD = text(
    """
    INSERT INTO probe.seen (team, topic, partition, topic_offset, value, apply_seq, nth, epoch, poison)
    VALUES (:team, :topic, :partition, :offset, :value, :apply_seq, :nth, :epoch, :poison)
    """
)

Hook = Callable[[AsyncConnection, Batch], Awaitable[None]]
Row = dict[str, Any]


@dataclass
class Probe:
    """The handler. `inside` runs in the transaction after the rows are written, `before` outside, while preparing."""

    team: str
    inside: Hook | None = None
    before: Callable[[Batch], Awaitable[None]] | None = None
    batches: list[Batch] = field(default_factory=list)
    drops: int = 0
    turns: dict[int, int] = field(default_factory=dict)
    limit: int | None = None
    _counts: dict[int, int] = field(default_factory=dict)

    async def prepare(self, batch: Batch) -> tuple[Batch, dict[int, int]]:
        if self.before is not None:
            await self.before(batch)
        return batch, {}

    async def apply(self, connection: AsyncConnection, work: tuple[Batch, dict[int, int]]) -> None:
        batch, counts = work
        rows = []
        for one in batch.slices:
            nth = self._counts.get(one.partition)
            if nth is None:
                nth = await self._stored(connection, one.partition)
            for place, record in enumerate([*one.second, *one.first], start=1):
                rows.append(
                    {
                        "team": self.team,
                        "topic": record.topic,
                        "partition": record.partition,
                        "offset": record.offset,
                        "value": None if batch.poison or record.value is None else record.value.decode(),
                        "apply_seq": one.apply_seq + place,
                        "nth": nth + place,
                        "epoch": one.epoch,
                        "poison": batch.poison,
                    }
                )
            counts[one.partition] = nth + one.size
        if rows:
            await connection.execute(_ADD, rows)
        if self.inside is not None:
            await self.inside(connection, batch)

    async def _stored(self, connection: AsyncConnection, partition: int) -> int:
        query = text("SELECT count(*) FROM probe.seen WHERE team = :team AND partition = :partition")
        return int((await connection.execute(query, {"team": self.team, "partition": partition})).scalar_one())

    def committed(self, work: tuple[Batch, dict[int, int]]) -> None:
        batch, counts = work
        self.batches.append(batch)
        self._counts.update(counts)

    def dropped(self) -> None:
        self.drops += 1
        self._counts.clear()

    def wants_turn(self) -> dict[int, int]:
        return self.turns

    def takes(self) -> int | None:
        return self.limit

    def held_because(self) -> str | None:
        return None


@dataclass
class Member:
    """A running group member; `leave` stops it as SIGTERM does."""

    consumer: FencedConsumer
    probe: Probe
    registry: CollectorRegistry
    _stop: asyncio.Event
    _task: asyncio.Task[None]

    async def leave(self) -> None:
        self._stop.set()
        await asyncio.wait_for(self._task, 30)

    def counted(self, name: str) -> float:
        """A counter of this member, by the name it has in /metrics less the prefix."""
        group = next(iter(self.registry.collect())).samples[0].labels["group"]
        return self.registry.get_sample_value(f"telemetry_{name}_total", {"group": group}) or 0.0


@dataclass
class Rig:
    """One group on two topics of its own."""

    kafka: KafkaSettings
    engine: AsyncEngine
    producer: AIOKafkaProducer
    group: str
    topics: tuple[str, str]
    sent: list[tuple[str, int, int, bytes]] = field(default_factory=list)

    async def produce(self, partition: int, *values: bytes, second: bool = False) -> None:
        """To the first topic, or the second."""
        topic = self.topics[second]
        acks = [await self.producer.send(topic, value=value, partition=partition) for value in values]
        for value, ack in zip(values, await asyncio.gather(*acks), strict=True):
            self.sent.append((topic, partition, ack.offset, value))

    @contextlib.asynccontextmanager
    async def member(
        self,
        *,
        probe: Probe | None = None,
        engine: AsyncEngine | None = None,
        max_records: int = 500,
        held_back: Callable[[], str | None] = lambda: None,
    ) -> AsyncIterator[Member]:
        registry = CollectorRegistry()
        probe = probe or Probe(self.group)
        consumer = FencedConsumer(
            kafka=self.kafka,
            engine=engine or self.engine,
            group=self.group,
            topics=self.topics,
            handler=probe,
            metrics=ConsumerMetrics(ConsumerFamilies(registry), self.group),
            max_records=max_records,
            held_back=held_back,
        )
        stop = asyncio.Event()
        member = Member(consumer, probe, registry, stop, asyncio.create_task(consumer.run(stop)))
        try:
            yield member
        finally:
            await member.leave()

    async def seen(self) -> list[Row]:
        """What was stored, in the order in which it was."""
        async with self.engine.connect() as connection:
            query = text("SELECT * FROM probe.seen WHERE team = :team ORDER BY n")
            return [dict(row._mapping) for row in await connection.execute(query, {"team": self.group})]

    async def until_all_seen(self, timeout_s: float = 30) -> list[Row]:
        """Waits until as much is stored as was sent."""
        async with asyncio.timeout(timeout_s):
            while len(rows := await self.seen()) < len(self.sent):  # noqa: ASYNC110 - a database tells by asking
                await asyncio.sleep(0.02)
        return rows

    async def owners(self) -> dict[int, Row]:
        async with self.engine.connect() as connection:
            query = text("SELECT * FROM partition_owner WHERE group_name = :group")
            rows = await connection.execute(query, {"group": self.group})
            return {row.partition: dict(row._mapping) for row in rows}

    async def gaps(self) -> list[tuple[str, int, int, int]]:
        async with self.engine.connect() as connection:
            query = text(
                "SELECT topic, partition, from_offset, to_offset FROM offset_gap"
                " WHERE topic = ANY(:topics) ORDER BY topic, partition"
            )
            return [tuple(row) for row in await connection.execute(query, {"topics": list(self.topics)})]

    def assert_exactly_once(self, rows: Sequence[Row]) -> None:
        """Each record that was sent is there once, in order within its topic partition, numbered without a gap."""
        found = [(row["topic"], row["partition"], row["topic_offset"]) for row in rows]
        assert sorted(found) == sorted(record[:3] for record in self.sent)
        for partition in {record[1] for record in self.sent}:
            mine = [row for row in rows if row["partition"] == partition]
            assert [row["apply_seq"] for row in mine] == list(range(1, len(mine) + 1))
            assert [row["nth"] for row in mine] == list(range(1, len(mine) + 1))
            for topic in self.topics:
                offsets = [row["topic_offset"] for row in mine if row["topic"] == topic]
                assert offsets == sorted(offsets)


async def until(what: Callable[[], bool], timeout_s: float = 20) -> None:
    """Waits until something is so in this process."""
    ends_at = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < ends_at, "it did not come about"
        await asyncio.sleep(0.01)


async def new_rig(
    kafka: KafkaSettings, engine: AsyncEngine, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> Rig:
    name = f"probe-{uuid.uuid4().hex[:8]}"
    topics = (f"{name}-a", f"{name}-b")
    await admin.create_topics(
        [NewTopic(name=topic, num_partitions=PARTITIONS, replication_factor=1) for topic in topics]
    )
    async with engine.begin() as connection:
        for statement in SCHEMA.split(";"):
            await connection.execute(text(statement))
    return Rig(kafka, engine, producer, name, topics)
