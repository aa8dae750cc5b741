"""One running service per module: starting it costs more than asking it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.stream.kafka import KafkaSettings
from tests.e2e.house import House, running_house


@pytest.fixture(scope="module")
async def house(kafka: KafkaSettings, engine: AsyncEngine, database_url: str) -> AsyncIterator[House]:
    async with running_house(kafka, engine, database_url) as house:
        yield house
