"""Settings of a topic changed as somebody with rights on the broker would, and shown by it before a test goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from telemetry_svc.stream.topics import ALL_TOPICS

SHOWN_WITHIN_S = 60


@contextlib.asynccontextmanager
async def altered(bootstrap: str, topic: str, other: Mapping[str, str]) -> AsyncIterator[None]:
    """One of our topics with these settings beside its own, until the end of the block."""
    [spec] = [spec for spec in ALL_TOPICS if spec.name == topic]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await _alter(admin, topic, spec.configs() | dict(other))
        yield
    finally:
        await _alter(admin, topic, spec.configs())
        await admin.close()


async def _alter(admin: AIOKafkaAdminClient, topic: str, wanted: Mapping[str, str]) -> None:
    """All settings of a topic are replaced at once. The broker answers before it knows them, and may have been too busy
    to hear: so it is asked for until it shows them.
    """
    async with asyncio.timeout(SHOWN_WITHIN_S):
        while not wanted.items() <= (await _shown(admin, topic)).items():
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(wanted))])
            await asyncio.sleep(0.1)


async def _shown(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    answers: list[Any] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for entry in answers[0].resources[0][4]}
