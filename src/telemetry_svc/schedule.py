"""The ticker: APScheduler wakes it, a row in the database decides (design.md, decision 14).

A slot is one minute of one schedule. Whoever writes its row first does its work, in the same transaction, so any number
of schedulers may run, one may die at any point, and a slot that came late is done once when it comes.
"""

import asyncio
from datetime import datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.clock import Clock
from telemetry_svc.codec.command import encode_tick
from telemetry_svc.logs import Trouble
from telemetry_svc.store.history import make_weeks, weeks_around
from telemetry_svc.store.outbox import OutboxMessage, enqueue
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.store.slots import drop_sent, take_slot

log = structlog.get_logger(__name__)

TICK_EVERY = timedelta(minutes=1)
SENT_ROWS_KEPT = timedelta(days=1)
ONE_PASS_S = 20


class Scheduler:
    """Writes one tick per minute and ping partition, and makes room in history ahead of time."""

    def __init__(self, engine: AsyncEngine, clock: Clock, partitions: int, tick_every: timedelta = TICK_EVERY) -> None:
        self._engine = engine
        self._clock = clock
        self._partitions = partitions
        self._tick_every = tick_every
        self._turning = asyncio.Lock()
        self._trouble = Trouble(log)

    async def run(self, stop: asyncio.Event) -> None:
        """Ticks until `stop` is set."""
        ticker = AsyncIOScheduler(timezone="UTC")
        ticker.add_job(
            self.turn,
            "interval",
            seconds=min(self._tick_every.total_seconds(), ONE_PASS_S) / 2,
            next_run_time=self._clock.now(),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        ticker.start()
        await stop.wait()
        ticker.pause()
        async with self._turning:  # a turn in hand is not cut off
            ticker.shutdown(wait=False)

    async def turn(self) -> None:
        """Does the current slot unless somebody has; never raises, for the next turn does what this one could not."""
        now = self._clock.now()
        try:
            async with self._turning, self._engine.begin() as connection:
                if await take_slot(connection, "tick", self._slot(now)):
                    await self._work(connection, now)
        except DATABASE_ERRORS as error:
            self._trouble.lasts("slot not done, trying again", reason=type(error).__name__)
        else:
            self._trouble.over()

    def _slot(self, now: datetime) -> datetime:
        return now - timedelta(seconds=now.timestamp() % self._tick_every.total_seconds())

    async def _work(self, connection: AsyncConnection, now: datetime) -> None:
        value = encode_tick(self._slot(now))
        ticks = [OutboxMessage(topics.COMMANDS, None, value, partition=number) for number in range(self._partitions)]
        await enqueue(connection, ticks)
        await make_weeks(connection, weeks_around(now + TICK_EVERY))
        await drop_sent(connection, now - SENT_ROWS_KEPT)
