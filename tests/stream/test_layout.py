"""Machines are spread over the partitions they were first spread over, or who reads or ticks them does not start."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, TopicAuthorizationFailedError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.app import Role, Service, Wiring
from telemetry_svc.cli.recover import restamp_unread
from telemetry_svc.clock import Clock, SystemClock
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.stream.batch import APPEND_TIME
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from telemetry_svc.stream.topics import PARTITIONS, BrokerUnavailable, LayoutError, agreed_partitions
from tests.conftest import empty_topics, read_topic
from tests.ingest.pipeline import ping, registration
from tests.stream.altering import altered

HEADERS = (("by", b"a bridge"),)


async def test_the_first_look_is_noted(kafka: KafkaSettings, engine: AsyncEngine, clean_database: None) -> None:
    assert await agreed_partitions(kafka, engine) == PARTITIONS
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT topic, partitions FROM topic_layout ORDER BY topic"))).all()
    assert [tuple(row) for row in rows] == [(topics.COMMANDS, PARTITIONS), (topics.PINGS, PARTITIONS)]


OF_GROUPS = pytest.mark.parametrize(
    ("group", "topic"),
    [(group, topic) for group, pair in topics.READ_BY.items() for topic in pair],
)


@OF_GROUPS
async def test_another_number_than_the_noted_one_is_refused(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, group: str, topic: str
) -> None:
    await note(engine, topic, 24)
    with pytest.raises(LayoutError, match=rf"{topic} has 12 partitions \(noted: 24\)"):
        await agreed_partitions(kafka, engine, group)
    for other in topics.READ_BY.keys() - {group}:
        assert await agreed_partitions(kafka, engine, other) == PARTITIONS


@OF_GROUPS
async def test_topics_of_a_group_that_differ_on_the_broker_are_refused(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    clean_database: None,
    monkeypatch: pytest.MonkeyPatch,
    group: str,
    topic: str,
) -> None:
    """One was given 24 partitions: a machine's records would be waited for where the other has no partition."""
    assert await agreed_partitions(kafka, engine, group) == PARTITIONS
    describe = AIOKafkaAdminClient.describe_topics

    async def doubled(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
        told = await describe(admin, names)
        return [one | {"partitions": one["partitions"] * (2 if one["topic"] == topic else 1)} for one in told]

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_topics", doubled)
    with pytest.raises(LayoutError, match=rf"{topic} has 24 partitions \(noted: 12\)"):
        await agreed_partitions(kafka, engine, group)
    for other in topics.READ_BY.keys() - {group}:
        assert await agreed_partitions(kafka, engine, other) == PARTITIONS


@pytest.mark.parametrize("topic", [topics.PINGS, topics.COMMANDS])
async def test_a_topic_that_goes_by_the_producers_clock_is_refused(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, topic: str
) -> None:
    """Somebody changed it after `migrate` had looked: `received_at` would be whatever a device says."""
    async with altered(kafka.bootstrap, topic, {"message.timestamp.type": "CreateTime"}):
        with pytest.raises(LayoutError, match=rf"{topic}: message.timestamp.type is CreateTime, must be LogAppendTime"):
            await agreed_partitions(kafka, engine)
    assert await agreed_partitions(kafka, engine) == PARTITIONS


@pytest.mark.parametrize(
    ("met", "told"),
    [
        (KafkaConnectionError("closed"), BrokerUnavailable),
        (KafkaTimeoutError(), BrokerUnavailable),
        (ConnectionResetError(), BrokerUnavailable),
        (TopicAuthorizationFailedError(), TopicAuthorizationFailedError),
    ],
    ids=lambda one: getattr(one, "__name__", type(one).__name__),
)
async def test_a_broker_that_dies_while_it_is_asked_is_one_that_is_not_there(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    clean_database: None,
    monkeypatch: pytest.MonkeyPatch,
    met: Exception,
    told: type[Exception],
) -> None:
    """Found by chaos: SIGKILL between the connection and the answer ended a role with exit code 1."""

    async def dies(*_: object) -> None:
        raise met

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_configs", dies)
    with pytest.raises(told):
        await agreed_partitions(kafka, engine)


@pytest.mark.parametrize("topic", topics.READ_BY[topics.NOTIFY_GROUP])
async def test_notify_takes_over_nothing_where_its_topics_are_spread_anew(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, database_url: str, topic: str
) -> None:
    """It looped for ever over a partition that one of them has not."""
    await note(engine, topic, 24)
    with pytest.raises(LayoutError, match=rf"{topic} has 12 partitions \(noted: 24\)"):
        await asyncio.wait_for(service(Role.NOTIFY, kafka, database_url).run(asyncio.Event()), 30)
    assert await column(engine, "SELECT 1 FROM partition_owner") == []


@pytest.mark.parametrize(
    ("role", "begun", "topic"),
    [
        (Role.SCHEDULE, "schedule_slot", topics.PINGS),
        (Role.NOTIFY, "partition_owner", topics.ANOMALY),
    ],
)
async def test_a_role_ends_when_the_topics_are_changed_under_it(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    clean_database: None,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    role: Role,
    begun: str,
    topic: str,
) -> None:
    monkeypatch.setattr("telemetry_svc.app.TOPICS_EVERY_S", 0.1)
    before = asyncio.all_tasks()
    running = asyncio.create_task(service(role, kafka, database_url).run(asyncio.Event()))
    async with asyncio.timeout(30):
        while not await column(engine, f"SELECT 1 FROM {begun}"):  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)
    await note(engine, topic, 24)
    with pytest.raises(LayoutError, match=rf"{topic} has 12 partitions \(noted: 24\)"):
        await asyncio.wait_for(running, 30)
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - its server and its ticker have ended, or are about to
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("topic", "place"), [(topics.PINGS, "a"), (topics.COMMANDS, "b")])
async def test_a_record_with_its_producers_time_ends_ingest_and_is_taken_once_it_has_the_brokers(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    clean_database: None,
    clean_topics: None,
    database_url: str,
    topic: str,
    place: str,
) -> None:
    """The topic is changed while ingest runs: a reading of 40 days ago, by whoever sends it, would be the last one.

    Then what docs/recovery.md says is done.
    """
    running = asyncio.create_task(service(Role.INGEST, kafka, database_url).run(asyncio.Event()))
    async with asyncio.timeout(30):
        while not await column(engine, "SELECT 1 FROM partition_owner"):  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)
    before = await column(engine, f"SELECT next_offset_{place} FROM partition_owner ORDER BY partition")
    async with (
        altered(kafka.bootstrap, topic, {"message.timestamp.type": "CreateTime"}),
        producer_of(kafka) as producer,
    ):
        forty_days_ago_ms = int((SystemClock().now() - timedelta(days=40)).timestamp() * 1000)
        value = ping("CLOCK-1", "2026-11-21T00:00:00Z") if topic == topics.PINGS else registration("CLOCK-1")
        how: dict[str, Any] = {"key": b"CLOCK-1", "headers": list(HEADERS)}
        sent = await producer.send_and_wait(topic, value, **how, timestamp_ms=forty_days_ago_ms)
        told = rf"{topic} partition {sent.partition} offset {sent.offset} has its producer's time .*LogAppendTime"
        with pytest.raises(LayoutError, match=told):
            await asyncio.wait_for(running, 30)
    assert await column(engine, f"SELECT next_offset_{place} FROM partition_owner ORDER BY partition") == before
    for table in ("ping", "ping_outlier", "machine_state", "dead_letter"):
        assert await column(engine, f"SELECT 1 FROM {table}") == []

    copied = f"{topic} partition {sent.partition}: 1 records copied, it begins at {sent.offset + 1} now"
    assert await restamp_unread(kafka, engine) == [copied]
    assert await restamp_unread(kafka, engine) == ["no record that is still to be read has its producer's time"]
    [copy] = await read_topic(kafka, topic)
    assert (copy.partition, copy.key, copy.value, copy.headers) == (sent.partition, b"CLOCK-1", value, HEADERS)
    assert (copy.timestamp_type, copy.timestamp > forty_days_ago_ms) == (APPEND_TIME, True)
    await until_ingest_takes_it(kafka, engine, database_url)
    assert await column(engine, "SELECT from_offset FROM offset_gap") == [before[sent.partition]]
    assert await column(engine, "SELECT to_offset FROM offset_gap") == [sent.offset + 1]
    await empty_topics(kafka)


async def until_ingest_takes_it(kafka: KafkaSettings, engine: AsyncEngine, database_url: str) -> None:
    """A registration, or the ping of a machine that nobody has registered."""
    stop = asyncio.Event()
    running = asyncio.create_task(service(Role.INGEST, kafka, database_url).run(stop))
    async with asyncio.timeout(30):
        while not await column(engine, "SELECT 1 FROM dead_letter UNION ALL SELECT 1 FROM machine_state"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    stop.set()
    await running


def service(role: Role, kafka: KafkaSettings, database_url: str, clock: Clock | None = None) -> Service:
    return Service(
        Wiring(
            roles=frozenset({role}),
            database_url=database_url,
            kafka=kafka,
            policies=load_policies(None),
            keyring=Keyring.parse(new_keyring_text()),
            http_port=0,
            clock=clock or SystemClock(),
        )
    )


def producer_of(kafka: KafkaSettings) -> AIOKafkaProducer:
    return AIOKafkaProducer(**client_options(kafka, "tests"), acks="all")


async def note(engine: AsyncEngine, topic: str, partitions: int) -> None:
    """As if the topic had had so many partitions when it was first seen."""
    keep = text(
        "INSERT INTO topic_layout VALUES (:topic, :count) ON CONFLICT (topic) DO UPDATE SET partitions = :count"
    )
    async with engine.begin() as connection:
        await connection.execute(keep, {"topic": topic, "count": partitions})


async def column(engine: AsyncEngine, query: str) -> list[Any]:
    async with engine.connect() as connection:
        return list(await connection.scalars(text(query)))
