"""A value that PostgreSQL refuses among records that wait in the database costs one letter and holds nobody up.

On the real broker, where the consumer cuts the batch down; each way of waiting by itself: tests/replay, same name.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.ingest.breaker import BreakerLimits
from telemetry_svc.stream.kafka import KafkaSettings
from tests.ingest.failing import deployed, of
from tests.ingest.pipeline import Pipeline, ping, running_pipeline
from tests.ingest.spoilt import spoil

PARKED, LATE, OTHER = "ZE215-000017", "ZE215-000018", "ZE215-000019"
SOON = BreakerLimits(try_every_s=0.3)
BEGIN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
LETTERS = """
    SELECT machine_id, error_class, taken_up_as, taken_up_why, count(*) FROM dead_letter GROUP BY 1, 2, 3, 4
    ORDER BY machine_id NULLS LAST, taken_up_as
"""
WHY = "CharacterNotInRepertoireError: PostgreSQL refuses a value"


async def test_it_is_one_letter_and_what_is_behind_it_goes_on(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    clean_database: None,
    clean_topics: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a parked machine, and among the letters of a late registration."""
    spoil(monkeypatch, lambda one: one.machine_id in {PARKED, LATE} and one.sequence in {3, 5})
    async with running_pipeline(kafka, engine, limits=SOON) as pipeline:
        await pipeline.register(PARKED)
        await pipeline.settle()
        with deployed(of(PARKED)) as deploy:
            await send(pipeline, PARKED, LATE, OTHER, numbers=range(8))
            await pipeline.settle()
            deploy.mend()
        for machine_id in (LATE, OTHER):
            await pipeline.register(machine_id)
        await pipeline.settle()
        async with asyncio.timeout(30):
            while await pipeline.rows("SELECT 1 FROM parked_machine"):  # noqa: ASYNC110 - a database tells by asking
                await asyncio.sleep(0.05)
        await send(pipeline, PARKED, LATE, numbers=range(8, 10))
        await pipeline.settle()
        for machine_id in (PARKED, LATE):
            assert await sequences(pipeline, machine_id) == [0, 1, 2, 4, 6, 7, 8, 9]
        assert await sequences(pipeline, OTHER) == list(range(8))
        assert await pipeline.rows(LETTERS) == [
            (PARKED, "internal", "replayed", None, 1),
            (LATE, "unknown_machine", "internal", WHY, 2),
            (LATE, "unknown_machine", "replayed", None, 6),
            (OTHER, "unknown_machine", "replayed", None, 8),
            (None, "internal", None, None, 2),
        ]
        assert await pipeline.rows("SELECT status, kind, count(*) FROM command GROUP BY 1, 2") == [
            ("applied", "registration", 3)
        ]
        assert await pipeline.rows("SELECT count(*) FROM held_record") == [(0,)]


async def send(pipeline: Pipeline, *machines: str, numbers: range) -> None:
    for number in numbers:
        at = (BEGIN + timedelta(hours=number)).isoformat()
        for machine_id in machines:
            value = ping(machine_id, at, hour_meter_h=45 + number, sequence=number)
            await pipeline.produce(topics.PINGS, machine_id, value)


async def sequences(pipeline: Pipeline, machine_id: str) -> list[int]:
    """Of the stored pings, in the order in which they were decided."""
    rows = await pipeline.rows("SELECT sequence FROM ping WHERE machine_id = :m ORDER BY apply_seq", m=machine_id)
    return [row[0] for row in rows]
