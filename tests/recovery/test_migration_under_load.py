"""The schema changes under a running ingest: nothing is lost, nobody waits two seconds for a lock (faults.md, 45).

How long a lock is waited for is measured where writers are few; that no index of a large table is built under a lock
that stops its writers is seen by the lock's mode, whatever the table's size.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from alembic import command
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.migrate import config_for, current_revision, head_revision, upgrade
from telemetry_svc.stream.kafka import KafkaSettings
from tests.ingest.pipeline import Pipeline, ping, running_pipeline
from tests.recovery.conftest import Databases

FIRST = "0001"
LONGEST_S = 2.0
_WAITS = text(
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart))::float8, 0) FROM pg_locks l"
    " JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database() WHERE NOT l.granted"
)


@dataclass
class Lookout:
    """The longest that anybody waited for a lock in this database, as seen ten times a second. Of a lock for which
    nobody waits it sees nothing, however long it is held."""

    engine: AsyncEngine
    longest_s: float = 0.0
    looks: int = 0

    async def look(self, connection: AsyncConnection) -> None:
        waited_s = (await connection.execute(_WAITS)).scalar_one()
        await connection.rollback()
        self.longest_s = max(self.longest_s, waited_s)
        self.looks += 1

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def run() -> None:
            async with self.engine.connect() as connection:
                while not over.is_set():
                    await self.look(connection)
                    await asyncio.sleep(0.1)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            over.set()
            await task


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(config_for(sync), revision))


@pytest.fixture
async def pipeline(databases: Databases, kafka: KafkaSettings, clean_topics: None) -> AsyncIterator[Pipeline]:
    """A running ingest on a database that is populated and went back to the first schema, as before an upgrade."""
    name = await databases.migrated()
    engine = databases.engine(name)
    async with running_pipeline(kafka, engine) as running:
        await running.register("LOAD-1")
        await running.settle()
        await send(running, 0, 500)
        await running.settle()
        yield running


async def send(pipeline: Pipeline, start: int, end: int) -> None:
    for number in range(start, end):
        minute, second = divmod(number, 60)
        recorded_at = f"2026-11-{1 + minute // 60 // 24:02}T{minute // 60 % 24:02}:{minute % 60:02}:{second:02}Z"
        await pipeline.produce(topics.PINGS, "LOAD-1", ping("LOAD-1", recorded_at, hour_meter_h=40 + number / 3600))


async def test_up_and_back_and_up_again_while_pings_come_in(pipeline: Pipeline) -> None:
    """What ingest needs of the newest schema fails meanwhile and is tried again: it loses nothing by it."""
    lookout = Lookout(pipeline.engine)
    async with lookout.looking():
        sending = asyncio.create_task(send(pipeline, 500, 1_500))
        for _ in range(2):
            await downgrade(pipeline.engine, FIRST)
            assert await current_revision(pipeline.engine) == FIRST
            await asyncio.sleep(0.5)
            await upgrade(pipeline.engine)
            assert await current_revision(pipeline.engine) == head_revision()
        await sending
        await pipeline.settle()
    assert await pipeline.rows("SELECT count(*) FROM ping") == [(1_500,)]
    assert await pipeline.rows("SELECT count(*), count(DISTINCT id) FROM event") == [(1, 1)], "upcoming at 50 h"
    assert lookout.looks > 5
    assert lookout.longest_s < LONGEST_S


async def test_a_migration_that_must_wait_gives_way_and_is_tried_again(databases: Databases) -> None:
    """A long writer holds a table that the migration changes; others get at it all the while."""
    name = await databases.new()
    engine = databases.engine(name)
    await upgrade(engine, FIRST)
    lookout = Lookout(create_engine(databases.url(name), application_name="tests"))
    async with lookout.looking(), engine.connect() as writer:
        await writer.execute(text("LOCK TABLE dead_letter IN ROW EXCLUSIVE MODE"))
        migrating = asyncio.create_task(upgrade(engine))
        for _ in range(4):
            await asyncio.sleep(0.5)
            async with engine.connect() as other:
                await asyncio.wait_for(other.execute(text("SELECT count(*) FROM dead_letter")), LONGEST_S)
        assert not migrating.done()
        assert await current_revision(engine) == FIRST
        await writer.rollback()
        await migrating
    assert await current_revision(engine) == head_revision()
    assert 0 < lookout.longest_s < LONGEST_S
    await lookout.engine.dispose()


_BUILDING = text("SELECT pid FROM pg_stat_progress_create_index WHERE relid = 'dead_letter'::regclass")
_MODES = text("SELECT DISTINCT mode FROM pg_locks WHERE relation = 'dead_letter'::regclass AND pid = :pid AND granted")
_IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_dead_letter_requested')")
_WRITE = text(
    "INSERT INTO dead_letter (topic, partition, topic_offset, error_class, error_message, record_timestamp)"
    " VALUES ('excavator.pings', 0, 1, 'malformed', 'NaN is not JSON', now())"
)


async def scalar(engine: AsyncEngine, query: TextClause) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(query)


async def building(engine: AsyncEngine) -> int:
    """The session that builds an index of dead letters, once there is one."""
    async with asyncio.timeout(10):
        while (pid := await scalar(engine, _BUILDING)) is None:  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)
        return int(pid)


async def test_an_index_of_a_large_table_is_built_beside_its_writers_and_again_where_a_try_was_cut_off(
    databases: Databases,
) -> None:
    """A reader with an old snapshot holds the build up, as the size of the table would; amid it `migrate` is killed."""
    engine = databases.engine(await databases.new())
    await upgrade(engine, FIRST)
    async with engine.connect() as reader:
        await reader.execution_options(isolation_level="REPEATABLE READ")
        await reader.execute(text("SELECT count(*) FROM api_key"))
        migrating = asyncio.create_task(upgrade(engine))
        pid = await building(engine)
        async with engine.begin() as writer:
            assert set(await writer.scalars(_MODES, {"pid": pid})) == {"ShareUpdateExclusiveLock"}
            await writer.execute(text("SET LOCAL lock_timeout = '200ms'"))
            await writer.execute(_WRITE)
            await writer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DBAPIError):
            await migrating
        assert await scalar(engine, _IS_VALID) is False
        await reader.rollback()
    await upgrade(engine)
    assert await scalar(engine, _IS_VALID) is True
    assert await current_revision(engine) == head_revision()
