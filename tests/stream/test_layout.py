"""Machines are spread over the partitions they were first spread over, or ingest does not start."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.app import Role, Service, Wiring
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.topics import PARTITIONS, LayoutError, agreed_partitions
from tests.stream.altering import altered


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


@pytest.mark.parametrize("topic", [topics.PINGS, topics.COMMANDS])
async def test_a_topic_that_goes_by_the_producers_clock_is_refused(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, topic: str
) -> None:
    """Somebody changed it after `migrate` had looked: `received_at` would be whatever a device says."""
    async with altered(kafka.bootstrap, topic, {"message.timestamp.type": "CreateTime"}):
        with pytest.raises(LayoutError, match=rf"{topic}: message.timestamp.type is CreateTime, must be LogAppendTime"):
            await agreed_partitions(kafka, engine)
    assert await agreed_partitions(kafka, engine) == PARTITIONS


async def test_a_role_ends_when_the_topics_are_changed_under_it(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry_svc.app.TOPICS_EVERY_S", 0.1)
    wiring = Wiring(
        roles=frozenset({Role.SCHEDULE}),
        database_url=database_url,
        kafka=kafka,
        policies=load_policies(None),
        keyring=Keyring.parse(new_keyring_text()),
        http_port=0,
    )
    before = asyncio.all_tasks()
    running = asyncio.create_task(Service(wiring).run(asyncio.Event()))
    async with asyncio.timeout(30):
        while not await slots(engine):  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE topic_layout SET partitions = 24 WHERE topic = 'excavator.pings'"))
    with pytest.raises(LayoutError, match="noted: 24"):
        await asyncio.wait_for(running, 30)
    async with asyncio.timeout(10):  # else something of it goes on: it listened at a closed socket, and led
        while not asyncio.all_tasks() <= before:  # noqa: ASYNC110 - no event tells that tasks have gone
            await asyncio.sleep(0.05)


async def slots(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list(await connection.scalars(text("SELECT slot FROM schedule_slot")))
