"""A topic that is missing, or does not answer, holds up its own rows and no others, and is told by its name."""

import asyncio
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from telemetry_svc.store.outbox import OutboxMessage
from telemetry_svc.stream import quiet_topics, relay
from telemetry_svc.stream.kafka import KafkaSettings, RelayProducer
from telemetry_svc.stream.metrics import RelayMetrics
from telemetry_svc.stream.relay import OutboxRelay
from tests.stream.mail import PARTITIONS, Mailbox, new_mailbox, numbered

MIB = 1024 * 1024


@pytest.fixture
async def mailbox(
    kafka: KafkaSettings, engine: AsyncEngine, admin: AIOKafkaAdminClient, clean_database: None
) -> Mailbox:
    return await new_mailbox(kafka, engine, admin)


def relay_of(mailbox: Mailbox, kafka: Any = None) -> tuple[OutboxRelay, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry)
    return OutboxRelay(kafka=kafka or mailbox.kafka, engine=mailbox.engine, metrics=metrics), registry


def quiet(registry: CollectorRegistry, topic: str) -> float | None:
    return registry.get_sample_value("telemetry_outbox_topic_quiet", {"topic": topic})


async def until_left(mailbox: Mailbox, rows: int) -> None:
    async with asyncio.timeout(30):
        while await mailbox.waiting() > rows:  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.02)


async def test_rows_for_a_missing_topic_wait_in_order_and_the_others_go(
    mailbox: Mailbox, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where more of them wait than a pass takes. Nothing else fails: no pass, no session."""
    monkeypatch.setattr(relay, "ROWS_PER_PASS", 3)
    monkeypatch.setattr(relay, "METADATA_TIMEOUT_S", 0.3)
    monkeypatch.setattr(quiet_topics, "LEFT_ALONE_S", 1.0)
    missing = Mailbox(mailbox.kafka, mailbox.engine, f"{mailbox.topic}-missing")
    await missing.enqueue(*(missing.message("M-1", value) for value in numbered(10)))
    await mailbox.enqueue(
        *(mailbox.message("M-1", value) for value in numbered(5)), mailbox.message("M-1", b"x" * 2 * MIB)
    )
    stop, (relaying, registry) = asyncio.Event(), relay_of(mailbox)
    with capture_logs() as told:
        running = asyncio.create_task(relaying.run(stop))
        await until_left(mailbox, 0)
        assert await mailbox.values_of("M-1") == list(numbered(5))
        assert (await mailbox.parked(), await missing.waiting()) == (1, 10)
        assert (quiet(registry, missing.topic), quiet(registry, mailbox.topic)) == (1, None)
        await admin.create_topics([NewTopic(missing.topic, PARTITIONS, 1)])
        await until_left(missing, 0)
        async with asyncio.timeout(30):
            while quiet(registry, missing.topic):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        stop.set()
        await running
    assert [one.value for one in await missing.arrived()] == list(numbered(10)), "once, and in order"
    waits = "outbox rows wait: their topic is missing or does not answer"
    assert [(one["event"], one["topic"]) for one in told] == [
        (waits, missing.topic),
        ("outbox row parked: too large for its topic", mailbox.topic),
        (f"over: {waits}", missing.topic),
    ]
    assert registry.get_sample_value("telemetry_outbox_failed_total") == 0


class Silent:
    """A broker that does not answer for one topic, or not even a client that starts (`topic` None)."""

    def __init__(self, kafka: KafkaSettings, topic: str | None) -> None:
        self.kafka = kafka
        self.topic = topic
        self.abandoned = 0

    def group_member(self, group: str) -> Any:
        raise NotImplementedError

    def relay_producer(self) -> RelayProducer:
        return SilentProducer(self, self.kafka.relay_producer())


class SilentProducer:
    def __init__(self, broker: Silent, producer: RelayProducer) -> None:
        self._broker = broker
        self._producer = producer

    async def start(self) -> None:
        await self._producer.start()
        if self._broker.topic is None:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        await self._producer.stop()

    async def abandon(self) -> None:
        self._broker.abandoned += 1
        await self._producer.abandon()

    def create_batch(self) -> BatchBuilder:
        return self._producer.create_batch()

    async def partitions_for(self, topic: str) -> set[int]:
        return await self._producer.partitions_for(topic)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        if topic == self._broker.topic:
            return asyncio.get_running_loop().create_future()
        return await self._producer.send_batch(batch, topic, partition=partition)


async def test_a_topic_that_acknowledges_nothing_is_left_alone_and_what_others_took_is_marked(
    mailbox: Mailbox, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ACK_TIMEOUT_S", 2.0)
    other = await new_mailbox(mailbox.kafka, mailbox.engine, admin)
    relaying, registry = relay_of(mailbox, Silent(mailbox.kafka, other.topic))
    await other.enqueue(other.message("M-1", b"held"))
    await mailbox.enqueue(mailbox.message("M-1", b"x" * 2 * MIB), mailbox.message("M-1", b"goes"))
    with pytest.raises(TimeoutError):
        await relaying.relay_once()
    assert (await mailbox.waiting(), await mailbox.parked(), await other.waiting()) == (0, 1, 1)
    assert [quiet(registry, topic) for topic in (mailbox.topic, other.topic)] == [None, 1]
    await mailbox.enqueue(mailbox.message("M-1", b"goes too"))
    assert await relaying.relay_once() == 1
    assert await relaying.relay_once() == 0
    assert await mailbox.values_of("M-1") == [b"goes", b"goes too"]
    await relaying._drop_producer()


async def test_a_client_that_does_not_start_outlasts_no_session_and_unparks_nothing(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ACK_TIMEOUT_S", 0.5)
    broker = Silent(mailbox.kafka, None)
    relaying, _ = relay_of(mailbox, broker)
    await mailbox.enqueue(mailbox.message("M-1", b"x" * 2 * MIB), mailbox.message("M-1", b"waits"))
    with pytest.raises(TimeoutError):
        await relaying.relay_once()
    assert (await mailbox.waiting(), await mailbox.parked(), broker.abandoned) == (1, 1, 1)


async def test_a_record_without_a_key_finds_a_place_in_a_topic_of_fewer_partitions(mailbox: Mailbox) -> None:
    """A dead letter keeps the partition of its record; one that the topic has not ended the process."""
    await mailbox.enqueue(OutboxMessage(mailbox.topic, None, b"letter", (), PARTITIONS + 3))
    relaying, _ = relay_of(mailbox)
    assert await relaying.relay_once() == 1
    await relaying._drop_producer()
    assert [(one.partition, one.value) for one in await mailbox.arrived()] == [(3, b"letter")]
