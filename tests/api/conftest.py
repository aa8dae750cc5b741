"""An API on an empty database for each test."""

from collections.abc import Mapping

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api import time_zones
from telemetry_svc.policies import load_policies
from telemetry_svc.rules import Policy
from telemetry_svc.telemetry import EditionId
from tests.api.house import TABLES, House


@pytest.fixture(scope="session")
def policies() -> Mapping[EditionId, Policy]:
    return load_policies()


@pytest.fixture(scope="session")
def zones() -> frozenset[str]:
    return time_zones()


@pytest.fixture
async def house(engine: AsyncEngine, policies: Mapping[EditionId, Policy], zones: frozenset[str]) -> House:
    async with engine.begin() as connection:
        for table in reversed(TABLES):  # a few rows each: much faster than TRUNCATE
            await connection.execute(table.delete())
    return House(engine, policies, zones)
