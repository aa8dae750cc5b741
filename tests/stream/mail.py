"""Outbox rows on a topic of one's own, and what has arrived there."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.outbox import Headers, OutboxMessage, enqueue
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.metrics import RelayMetrics
from telemetry_svc.stream.relay import OutboxRelay
from tests.conftest import read_topic

PARTITIONS = 4


@dataclass(frozen=True)
class Arrived:
    """A record as it lies on the topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass
class Mailbox:
    """One topic, with the rows for it in the outbox."""

    kafka: KafkaSettings
    engine: AsyncEngine
    topic: str

    def relay(self, kafka: KafkaSettings | None = None, engine: AsyncEngine | None = None) -> OutboxRelay:
        return OutboxRelay(
            kafka=kafka or self.kafka, engine=engine or self.engine, metrics=RelayMetrics(CollectorRegistry())
        )

    def message(self, key: str, value: bytes) -> OutboxMessage:
        return OutboxMessage(self.topic, key.encode(), value)

    async def enqueue(self, *messages: OutboxMessage) -> None:
        async with self.engine.begin() as connection:
            await enqueue(connection, messages)

    async def waiting(self) -> int:
        return await self._count("sent_at IS NULL AND parked_reason IS NULL")

    async def parked(self) -> int:
        return await self._count("parked_reason IS NOT NULL AND sent_at IS NULL")

    async def _count(self, what: str) -> int:
        async with self.engine.connect() as connection:
            query = text(f"SELECT count(*) FROM outbox WHERE topic = :topic AND {what}")
            return int((await connection.execute(query, {"topic": self.topic})).scalar_one())

    async def arrived(self) -> list[Arrived]:
        """Everything on the topic, partition by partition in order."""
        return [
            Arrived(one.partition, one.offset, one.key, one.value, tuple(one.headers))
            for one in await read_topic(self.kafka, self.topic, PARTITIONS)
        ]

    async def values_of(self, key: str) -> list[bytes | None]:
        """First occurrences only: what counts, where a repeat of the same id is harmless."""
        return list(dict.fromkeys(one.value for one in await self.arrived() if one.key == key.encode()))


async def new_mailbox(kafka: KafkaSettings, engine: AsyncEngine, admin: AIOKafkaAdminClient) -> Mailbox:
    """A topic with the limit that a broker has by default, whatever the one at hand has."""
    topic = f"mail-{uuid.uuid4().hex[:8]}"
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs={"max.message.bytes": "1048588"})])
    return Mailbox(kafka, engine, topic)


def numbered(count: int, tag: str = "v") -> Sequence[bytes]:
    return [b"%s-%05d" % (tag.encode(), number) for number in range(count)]
