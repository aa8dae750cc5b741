"""Looks into the database now and then for what waits to be tried again, so that its partition gets a turn for it.

A turn takes the fence, so it is not taken in vain: this reads outside of it, and may be wrong by a moment.
"""

import asyncio

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import pause
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.ingest.trying import READ_HERE
from telemetry_svc.store.parked import waiting_to_be_tried
from telemetry_svc.store.refusals import DATABASE_ERRORS

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0


class Lookout:
    """`due`: the partitions that had something to be tried when it last looked; also of other members."""

    def __init__(self, metrics: IngestMetrics, every_s: float = LOOK_EVERY_S) -> None:
        self._metrics = metrics
        self._every_s = every_s
        self.due: frozenset[int] = frozenset()

    async def watch(self, engine: AsyncEngine, stop: asyncio.Event) -> None:
        """Looks until `stop` is set; what the database refuses now, the next look sees."""
        while not stop.is_set():
            try:
                async with engine.connect() as connection:
                    waiting = await waiting_to_be_tried(connection, READ_HERE)
            except DATABASE_ERRORS as error:
                log.info("could not look for what waits", reason=type(error).__name__)
            else:
                self.due |= waiting.partitions
                self._metrics.parked.set(waiting.parked)
            await pause(stop, self._every_s)

    def done(self, partition: int) -> None:
        """A turn found nothing there."""
        self.due -= {partition}

    def clear(self) -> None:
        """The partitions may be another's now."""
        self.due = frozenset()
