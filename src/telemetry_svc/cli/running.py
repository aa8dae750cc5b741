"""Runs a coroutine as the process's main job, on uvloop, with Ctrl-C and SIGTERM as one `stop` event.

After the signal the process is gone within its grace time whatever happens: a job that has not ended a little before is
cut off, and one that does not end even then is left as a SIGKILL would leave it.
"""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import structlog
import typer
import uvloop

from telemetry_svc.logs import configure_logs
from telemetry_svc.settings import Settings, load_settings, unknown_settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

ENDING_SHARE = 0.8
"""Of the grace time: then the whole job is cut off, and has the rest to clean up."""
IN_PART = 1
"""The exit code of a job that was cut off: what it had begun is left to whoever comes next."""


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
    """A long command: `job` gets the event that a signal sets, and has `grace_s` to end after it.

    Where the job had to be cut off, the exit code is `IN_PART`.
    """
    last_resort = threading.Timer(grace_s, _leave)
    last_resort.daemon = True
    try:
        in_order = run(_with_signals(job, grace_s, last_resort))
    finally:
        last_resort.cancel()
    if not in_order:
        raise typer.Exit(IN_PART)


async def _with_signals(
    job: Callable[[asyncio.Event], Awaitable[None]], grace_s: float, last_resort: threading.Timer
) -> bool:
    """False where the job was cut off."""
    stop = asyncio.Event()

    def stop_now() -> None:
        if not stop.is_set():
            stop.set()
            last_resort.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop_now)
    working = asyncio.ensure_future(job(stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    _, late = await asyncio.wait([working], timeout=grace_s * ENDING_SHARE)
    if late:
        log.warning("the whole process is cut off: it did not end in time", grace_s=grace_s)
        working.cancel()
        await asyncio.wait([working])
    if working.cancelled():
        return False
    await working
    return True


def _leave() -> None:
    """From a thread of its own, for the loop may be what does not end. What is not committed was never done."""
    log.error("left as it is: it did not end in time, even when cut off")
    os._exit(IN_PART)


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
