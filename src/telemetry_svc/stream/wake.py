"""Wakes the relay when a transaction with outbox rows commits. It only saves waiting: polling finds every row."""

import asyncio

import asyncpg
import structlog
from sqlalchemy.engine import make_url

from telemetry_svc.clock import pause
from telemetry_svc.logs import Trouble
from telemetry_svc.store.engine import NO_ANSWER
from telemetry_svc.store.outbox import WAKE_CHANNEL

log = structlog.get_logger(__name__)

RETRY_S = 5.0


async def listen(database_url: str, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Sets `wake` at each NOTIFY, on a connection of its own, until `stop`; a lost connection is made again."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    trouble = Trouble(log)
    while not stop.is_set():
        try:
            await _listen_once(url, wake, stop, trouble)
        except NO_ANSWER as error:
            trouble.lasts("wake-up connection lost, polling goes on", reason=type(error).__name__)
            await pause(stop, RETRY_S)


async def _listen_once(url: str, wake: asyncio.Event, stop: asyncio.Event, trouble: Trouble) -> None:
    connection = await asyncpg.connect(url, timeout=10, server_settings={"application_name": "telemetry-wake"})
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    try:
        await connection.add_listener(WAKE_CHANNEL, lambda *_: wake.set())
        trouble.over()
        while not stop.is_set() and not lost.is_set():
            await pause(stop, 1.0)
    finally:
        connection.terminate()
