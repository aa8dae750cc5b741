"""A lane for each test, on an empty database."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.policies import load_policies
from tests.replay.lane import Lane


@pytest.fixture
async def lane(engine: AsyncEngine, clean_database: None) -> Lane:
    lane = Lane(engine, load_policies(None))
    await lane.begin()
    return lane
