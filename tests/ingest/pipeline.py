"""The ingest member and relay of the tests: the real broker and database, driven until they are idle."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.codec import command as command_codec
from telemetry_svc.ingest.breaker import LIMITS, BreakerLimits
from telemetry_svc.ingest.handler import IngestHandler
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.policies import load_policies
from telemetry_svc.rules import Policy
from telemetry_svc.store.history import make_weeks, weeks_around
from telemetry_svc.store.outbox import backlog
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from telemetry_svc.stream.metrics import ConsumerFamilies, ConsumerMetrics, RelayMetrics
from telemetry_svc.stream.relay import OutboxRelay
from telemetry_svc.telemetry import EditionId, Machine, MachineId, Registration
from tests.conftest import Records, read_topic

PARTITIONS = 12


def machine(machine_id: str, **fields: Any) -> Machine:
    defaults: dict[str, Any] = {"tonnage_t": 22.5, "policy_edition": "zoomlion-2011-rev1"}
    return Machine(machine_id=MachineId(machine_id), **(defaults | fields))


def registration(machine_id: str, **fields: Any) -> bytes:
    now = datetime.now(UTC)
    return command_codec.encode(Registration(uuid4(), machine(machine_id, **fields), now, now))


def ping(machine_id: str, recorded_at: str, **fields: Any) -> bytes:
    return json.dumps({"machine_id": machine_id, "recorded_at": recorded_at} | fields).encode()


@dataclass
class Pipeline:
    """One ingest member with its relay, and a producer that plays the devices."""

    kafka: KafkaSettings
    engine: AsyncEngine
    producer: AIOKafkaProducer
    member: FencedConsumer
    handler: IngestHandler
    looker: AIOKafkaConsumer
    registry: CollectorRegistry

    async def produce(self, topic: str, key: str | bytes | None, value: bytes | None, **options: Any) -> int:
        raw_key = key.encode() if isinstance(key, str) else key
        record = await self.producer.send_and_wait(topic, key=raw_key, value=value, **options)
        return int(record.offset)

    async def register(self, machine_id: str, **fields: Any) -> None:
        await self.produce(topics.COMMANDS, machine_id, registration(machine_id, **fields))

    async def settle(self, timeout_s: float = 30.0) -> None:
        """Waits until everything produced is stored and everything decided is sent."""
        async with asyncio.timeout(timeout_s):
            while not await self._idle():  # noqa: ASYNC110 - no event tells that a database is idle
                await asyncio.sleep(0.05)

    async def _idle(self) -> bool:
        pairs = [TopicPartition(topic, n) for topic in (topics.PINGS, topics.COMMANDS) for n in range(PARTITIONS)]
        ends = await self.producer_ends(pairs)
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT partition, next_offset_a, next_offset_b FROM partition_owner WHERE group_name = :g"),
                {"g": topics.INGEST_GROUP},
            )
            read = {}
            for number, first, second in rows:
                read[TopicPartition(topics.PINGS, number)] = first
                read[TopicPartition(topics.COMMANDS, number)] = second
            return all(read.get(pair, -1) >= end for pair, end in ends.items()) and not await backlog(connection)

    async def producer_ends(self, pairs: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(await self.looker.end_offsets(list(pairs)))

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql), values)]

    async def topic(self, name: str) -> Records:
        """All records of a topic, partition by partition."""
        return await read_topic(self.kafka, name)


@contextlib.asynccontextmanager
async def running_pipeline(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    policies: Mapping[EditionId, Policy] | None = None,
    limits: BreakerLimits = LIMITS,
) -> AsyncIterator[Pipeline]:
    """A member and a relay that run until the end of the block, by the two editions or by `policies`."""
    weeks = weeks_around(datetime.now(UTC))
    async with engine.begin() as connection:
        await make_weeks(connection, weeks)
    registry = CollectorRegistry()
    families = ConsumerFamilies(registry)

    handler = IngestHandler(
        policies=policies or load_policies(None),
        partitions=PARTITIONS,
        weeks=weeks,
        metrics=IngestMetrics(registry),
        ends_of_pings=lambda numbers: member.ends_of_first(numbers),  # noqa: PLW0108 - each needs the other
        limits=limits,
        look_every_s=0.05,
    )
    member = FencedConsumer(
        kafka=kafka,
        engine=engine,
        group=topics.INGEST_GROUP,
        topics=(topics.PINGS, topics.COMMANDS),
        handler=handler,
        metrics=ConsumerMetrics(families, topics.INGEST_GROUP),
    )
    relay = OutboxRelay(kafka=kafka, engine=engine, metrics=RelayMetrics(registry))
    producer = AIOKafkaProducer(
        **client_options(kafka, "tests"), acks="all", enable_idempotence=True, max_request_size=3 * 1024 * 1024
    )
    await producer.start()
    looker = AIOKafkaConsumer(**client_options(kafka, "tests"))
    await looker.start()
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(one) for one in (member.run(stop), relay.run(stop), handler.lookout.watch(engine, stop))
    ]
    try:
        yield Pipeline(kafka, engine, producer, member, handler, looker, registry)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await producer.stop()
        await looker.stop()
