"""Runs a coroutine as the process's main job, on uvloop, with Ctrl-C and SIGTERM as one `stop` event."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import typer
import uvloop

from telemetry_svc.logs import configure_logs
from telemetry_svc.settings import Settings, load_settings, unknown_settings

T = TypeVar("T")


def settings_with_logs(**overrides: Any) -> Settings:
    """The settings, with logging set up by them; unknown ones are told, on stderr. Raises `SettingsError`."""
    for line in unknown_settings():
        typer.echo(f"telemetry-svc: {line}", err=True)
    settings = load_settings(**overrides)
    configure_logs(settings.log_level, settings.log_format)
    return settings


GC_THRESHOLDS = (100_000, 20, 50)


def tune_collector() -> None:
    """Fewer passes of the cycle collector: a batch holds tens of thousands of objects and makes no cycles.

    With Python's own thresholds (700) the collector took 30 % of the time of ingest (benchmarks/ingest.py).
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def run(job: Coroutine[Any, Any, T]) -> T:
    """A job to its end, on uvloop."""
    tune_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(job)


def run_until_stopped(job: Callable[[asyncio.Event], Awaitable[None]], grace_s: float) -> None:
    """A long command: `job` gets the event that a signal sets, and has `grace_s` to end after it."""
    run(_with_signals(job, grace_s))


async def _with_signals(job: Callable[[asyncio.Event], Awaitable[None]], grace_s: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    working = asyncio.ensure_future(job(stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        await asyncio.wait([working], timeout=grace_s)
    if not working.done():
        working.cancel()
    await working


async def unless_stopped(stop: asyncio.Event, job: Awaitable[T]) -> T | None:
    """What `job` returns; None where `stop` is set before it is done: then it is cancelled and has cleaned up."""
    working, stopping = asyncio.ensure_future(job), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        return None
    finally:
        working.cancel()
        stopping.cancel()


async def pause(stop: asyncio.Event, timeout_s: float) -> None:
    """Waits, but not longer than until `stop`."""
    try:
        await asyncio.wait_for(stop.wait(), timeout_s)
    except TimeoutError:
        return
