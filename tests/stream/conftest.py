"""A producer and an admin client for all tests here, and a group of its own for each."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.stream.kafka import KafkaSettings, client_options
from tests.stream.rig import Rig, new_rig


@pytest.fixture(scope="session")
async def producer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**client_options(kafka, "tests"), acks="all", enable_idempotence=True, linger_ms=5)
    await producer.start()
    yield producer
    await producer.stop()


@pytest.fixture(scope="session")
async def admin(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_options(kafka, "tests"))
    await admin.start()
    yield admin
    await admin.close()


@pytest.fixture
async def rig(kafka: KafkaSettings, engine: AsyncEngine, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient) -> Rig:
    return await new_rig(kafka, engine, producer, admin)
