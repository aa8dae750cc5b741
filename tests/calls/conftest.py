"""A call service on an empty database."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.notify.queues import Queues
from telemetry_svc.privacy import Keyring, new_keyring_text
from tests.calls.service import CallService
from tests.notify.alerts import EDITION, QUEUE


@pytest.fixture
async def service(engine: AsyncEngine, clean_database: None) -> CallService:
    return CallService(engine, Keyring.parse(new_keyring_text()), Queues({EDITION: QUEUE}, EDITION))
