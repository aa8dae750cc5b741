"""Who blocks the event loop is named while it is blocked, once, and whoever asked meanwhile is told."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from structlog.testing import capture_logs

from telemetry_svc.watchdog import Watchdog

BLOCKED_S = 0.2


@asynccontextmanager
async def running() -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(blocked_s=BLOCKED_S, beat_s=0.02)
    stop = asyncio.Event()
    task = asyncio.create_task(watchdog.run(stop))
    await asyncio.sleep(0)
    try:
        yield watchdog
    finally:
        stop.set()
        await task


def sleep_in_the_loop(until: Callable[[], bool]) -> None:
    """The culprit: waits as no coroutine may."""
    while not until():
        threading.Event().wait(0.01)


def named(logs: list[structlog.typing.EventDict]) -> list[structlog.typing.EventDict]:
    return [line for line in logs if line["event"] == "the event loop is blocked"]


async def test_the_culprit_is_named_once_and_the_end_of_it_is_told() -> None:
    with capture_logs() as logs:
        async with running() as watchdog:
            sleep_in_the_loop(lambda: bool(named(logs)))
            asked = await watchdog.check()
            await asyncio.sleep(0.1)
            aftermath = await watchdog.check()
    [line] = named(logs)
    assert "wait" in line["culprit"]
    assert any("sleep_in_the_loop" in frame for frame in line["frames"])
    assert line["log_level"] == "error"
    for_people = structlog.dev.ConsoleRenderer(colors=False)(None, "error", dict(line))
    assert "sleep_in_the_loop" in for_people
    assert asked is not None
    assert asked.startswith("the event loop was blocked for")
    assert aftermath is not None
    assert [one["event"] for one in logs][-1] == "the event loop goes on"


async def test_each_blockage_is_named() -> None:
    with capture_logs() as logs:
        async with running():
            sleep_in_the_loop(lambda: len(named(logs)) == 1)
            await asyncio.sleep(0.1)
            sleep_in_the_loop(lambda: len(named(logs)) == 2)
    assert len(named(logs)) == 2


async def test_a_loop_that_keeps_time_is_well() -> None:
    watchdog = Watchdog(blocked_s=60, beat_s=0.01)
    stop = asyncio.Event()
    with capture_logs() as logs:
        task = asyncio.create_task(watchdog.run(stop))
        for _ in range(5):
            await asyncio.sleep(0.01)
            assert await watchdog.check() is None
        stop.set()
        await task
    assert logs == []


async def test_its_thread_ends_with_it() -> None:
    async with running():
        assert "telemetry-watchdog" in {thread.name for thread in threading.enumerate()}
    async with asyncio.timeout(5):
        while any(thread.name == "telemetry-watchdog" for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
