"""NOTIFY wakes the relay at commit; polling finds every row anyway, so a lost connection costs only time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store.outbox import OutboxMessage, enqueue
from telemetry_svc.stream import wake as wake_up
from telemetry_svc.stream.wake import listen

LISTENERS = "FROM pg_stat_activity WHERE application_name = 'telemetry-wake' AND datname = current_database()"
MESSAGE = OutboxMessage("t", b"M-1", b"v")


@pytest.fixture
async def wake(database_url: str, engine: AsyncEngine, clean_database: None) -> AsyncIterator[asyncio.Event]:
    """Set by a listener that listens by now."""
    wake, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(listen(database_url, wake, stop))
    await until_listening(engine)
    yield wake
    stop.set()
    await asyncio.wait_for(task, 5)


async def until_listening(engine: AsyncEngine, other_than: int | None = None) -> int:
    query = text(f"SELECT pid {LISTENERS} AND query LIKE 'LISTEN%' AND state = 'idle'")
    async with asyncio.timeout(10):
        while True:
            async with engine.connect() as connection:
                pids = [row[0] for row in await connection.execute(query)]
            if pids and pids != [other_than]:
                return int(pids[0])
            await asyncio.sleep(0.02)


async def test_a_commit_wakes_and_nothing_before_it(wake: asyncio.Event, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await enqueue(connection, [MESSAGE])
        assert await other_commit(engine)
        assert not wake.is_set()
    await asyncio.wait_for(wake.wait(), 5)


async def test_a_rollback_does_not_wake(wake: asyncio.Event, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await enqueue(connection, [MESSAGE])
        await connection.rollback()
    async with engine.begin() as connection:
        await connection.execute(text("NOTIFY telemetry_outbox_of_another"))
    async with engine.begin() as connection:
        await enqueue(connection, [])
    assert not await woken_after_a_round_trip(wake, engine)


async def test_a_lost_connection_is_made_again(wake: asyncio.Event, engine: AsyncEngine) -> None:
    before = await until_listening(engine)
    async with engine.begin() as connection:
        await connection.execute(text(f"SELECT pg_terminate_backend(pid) {LISTENERS}"))
    await until_listening(engine, other_than=before)
    assert not wake.is_set()
    async with engine.begin() as connection:
        await enqueue(connection, [MESSAGE])
    await asyncio.wait_for(wake.wait(), 5)


@pytest.mark.parametrize(
    "error", [asyncpg.InternalClientError, asyncpg.InterfaceError, OSError], ids=lambda one: one.__name__
)
async def test_whatever_the_driver_raises_costs_only_time(
    database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The first connection ends with it."""
    listens = wake_up._listen_once
    failures = [error("in the midst of an operation")]

    async def fails_once(*given: Any) -> None:
        if failures:
            raise failures.pop()
        await listens(*given)

    monkeypatch.setattr(wake_up, "_listen_once", fails_once)
    monkeypatch.setattr(wake_up, "RETRY_S", 0.01)
    stop = asyncio.Event()
    task = asyncio.create_task(listen(database_url, asyncio.Event(), stop))
    await until_listening(engine)
    stop.set()
    await asyncio.wait_for(task, 5)
    assert failures == []


async def other_commit(engine: AsyncEngine) -> bool:
    """Another transaction begins and ends: what had been sent by then would have arrived."""
    async with engine.begin() as connection:
        return bool((await connection.execute(text("SELECT true"))).scalar_one())


async def woken_after_a_round_trip(wake: asyncio.Event, engine: AsyncEngine) -> bool:
    """Notifications come in the order of commits: a later one, of a second listener, tells that none came before."""
    later = asyncio.Event()
    async with engine.connect() as connection:
        await _listen(connection, later)
        async with engine.begin() as notifier:
            await notifier.execute(text("NOTIFY telemetry_test_marker"))
        await asyncio.wait_for(later.wait(), 5)
        await connection.invalidate()
    return wake.is_set()


async def _listen(connection: AsyncConnection, event: asyncio.Event) -> None:
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    await raw.add_listener("telemetry_test_marker", lambda *_: event.set())
