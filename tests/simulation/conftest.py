"""The same house twice: the real database and broker, and the simulated ones, for one suite that both must pass."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.history import make_weeks, weeks_around
from telemetry_svc.stream.kafka import Broker, KafkaSettings, client_options
from tests.conftest import empty_database
from tests.simulation.broker import Clients, SimBroker
from tests.simulation.connection import FakeEngine
from tests.simulation.faults import Struck
from tests.simulation.life import new_database
from tests.simulation.process import Process, Surroundings
from tests.simulation.virtual_time import START

PARTITIONS = 2


@dataclass
class Site:
    """A database and a broker, real or simulated. `append` writes one record and gives its offset."""

    engine: AsyncEngine
    broker: Broker
    topics: tuple[str, str]
    append: Callable[[TopicPartition, bytes | None, bytes | None], Awaitable[int]]
    log: Callable[[TopicPartition], Awaitable[list[Any]]]


@pytest.fixture(params=["simulated", "real"])
def site(request: pytest.FixtureRequest) -> Site:
    """One after the other; the real parts are started only for the second."""
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found


@pytest.fixture
async def simulated_site() -> Site:
    """A house in memory, in which nothing goes wrong."""
    return new_site()


def new_site() -> Site:
    """The same, for whoever has a loop of his own."""
    database = new_database(random.Random(1))
    broker = SimBroker(random.Random(2), PARTITIONS)
    process = Process("test", Surroundings(random.Random(3), [], Struck()))

    async def append(place: TopicPartition, key: bytes | None, value: bytes | None) -> int:
        return broker.append(place, key, value)

    async def log(place: TopicPartition) -> list[Any]:
        return broker.logs[place]

    engine = cast(AsyncEngine, FakeEngine(database, process))
    return Site(engine, Clients(broker, process), _new_topics(), append, log)


@pytest.fixture
async def real_site(engine: AsyncEngine, kafka: KafkaSettings) -> AsyncIterator[Site]:
    """The servers of this run of tests."""
    await empty_database(engine)
    async with engine.begin() as connection:
        await make_weeks(connection, weeks_around(START))
    producer = AIOKafkaProducer(**client_options(kafka, "tests"), acks="all", enable_idempotence=True)
    await producer.start()
    yield await _real(engine, kafka, producer)
    await producer.stop()
    await empty_database(engine)


def _new_topics() -> tuple[str, str]:
    name = f"behaviour-{uuid.uuid4().hex[:8]}"
    return f"{name}-a", f"{name}-b"


async def _real(engine: AsyncEngine, kafka: KafkaSettings, producer: AIOKafkaProducer) -> Site:
    names = _new_topics()
    admin = AIOKafkaAdminClient(**client_options(kafka, "tests"))
    await admin.start()
    await admin.create_topics([NewTopic(name=name, num_partitions=PARTITIONS, replication_factor=1) for name in names])
    await admin.close()

    async def append(place: TopicPartition, key: bytes | None, value: bytes | None) -> int:
        record = await producer.send_and_wait(place.topic, key=key, value=value, partition=place.partition)
        return int(record.offset)

    async def log(place: TopicPartition) -> list[Any]:
        return await _read(kafka, place)

    return Site(engine, kafka, names, append, log)


async def _read(kafka: KafkaSettings, place: TopicPartition) -> list[Any]:
    async with AIOKafkaConsumer(**client_options(kafka, "tests"), auto_offset_reset="earliest") as looker:
        looker.assign([place])
        end = (await looker.end_offsets([place]))[place]
        found: list[Any] = []
        async with asyncio.timeout(20):
            while len(found) < end:
                found += (await looker.getmany(place, timeout_ms=200)).get(place, [])
        return found
