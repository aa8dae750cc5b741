"""Machines are spread over the partitions they were first spread over, or ingest does not start."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.topics import PARTITIONS, LayoutError, agreed_partitions


async def test_the_first_look_is_noted(kafka: KafkaSettings, engine: AsyncEngine, clean_database: None) -> None:
    assert await agreed_partitions(kafka, engine) == PARTITIONS
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT topic, partitions FROM topic_layout ORDER BY topic"))).all()
    assert [tuple(row) for row in rows] == [(topics.COMMANDS, PARTITIONS), (topics.PINGS, PARTITIONS)]


async def test_another_number_than_the_noted_one_is_refused(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO topic_layout VALUES ('excavator.pings', 24)"))
    with pytest.raises(LayoutError, match=r"excavator\.pings has 12 partitions \(noted: 24\)"):
        await agreed_partitions(kafka, engine)
