"""Backpressure: nothing is read while what is behind us cannot keep up (design.md, decision 15; faults 15 and 18).

Two things hold a consumer back: the database does not answer, or more rows wait in the outbox than `HIGH_ROWS`. It goes
on below `LOW_ROWS`, so that it does not stutter at the mark. Kafka keeps what is not read; our memory does not grow.
"""

import asyncio

import structlog
from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import pause
from telemetry_svc.store.identity import was_restored
from telemetry_svc.store.outbox import waiting_up_to
from telemetry_svc.store.refusals import DATABASE_ERRORS

log = structlog.get_logger(__name__)

HIGH_ROWS = 50_000
LOW_ROWS = 25_000
LOOK_EVERY_S = 1.0
LOOK_TIMEOUT_S = 5.0
RESTORED = "the database was restored: run `telemetry-svc recover`"


class Pressure:
    """Looks at database and outbox once in a while. `reason`: why nothing may be read now, in our own words;
    `restored`: why no alert may become a call now, for one that was made and forgotten would be made again.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        waiting: Gauge,
        *,
        high_rows: int = HIGH_ROWS,
        low_rows: int = LOW_ROWS,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._engine = engine
        self._waiting = waiting
        self._high_rows = high_rows
        self._low_rows = low_rows
        self._every_s = every_s
        self._behind = False
        self.reason: str | None = "the database was not looked at yet"
        self.restored: str | None = None

    async def watch(self, stop: asyncio.Event) -> None:
        """Looks until `stop` is set."""
        while not stop.is_set():
            await self.look()
            await pause(stop, self._every_s)

    async def look(self) -> None:
        """Asks the database once; never raises."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S), self._engine.connect() as connection:
                rows = await waiting_up_to(connection, self._high_rows + 1)
                self.restored = RESTORED if await was_restored(connection) else None
        except DATABASE_ERRORS as error:
            log.warning("no look at the outbox", reason=type(error).__name__)
            self.reason = "the database does not answer"
            return
        self._waiting.set(rows)
        self._behind = rows > (self._low_rows if self._behind else self._high_rows)
        self.reason = "too many rows wait in the outbox" if self._behind else None
