"""Whether a consumer gets on with what there is to read, seen from outside (design.md, decision 15; fault 12).

A member that is alive and silent cannot be asked: its own client may be what is stuck. So its progress is what
PostgreSQL has stored, and what is left to read is what another client can read there. Only a restart mends such a
member, so it is not counted while the database or the broker does not answer, or a pause is in force.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import Clock
from telemetry_svc.store.ownership import Offsets, stored_offsets
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.kafka import KafkaSettings, client_options

STALLED_S = 90.0
LOOK_EVERY_S = 10.0
LOOK_TIMEOUT_S = 20.0
READ_MS = 3_000
NOT_TO_BE_SEEN: tuple[type[Exception], ...] = (KafkaError, *DATABASE_ERRORS)


class Watched(Protocol):
    """What is asked of a group member: what it was given, and why it reads nothing, if it is not meant to."""

    @property
    def wanted(self) -> frozenset[int]: ...

    @property
    def held(self) -> str | None: ...


class Progress:
    """Looks at one member of `group` every `LOOK_EVERY_S`."""

    def __init__(
        self,
        member: Watched,
        *,
        kafka: KafkaSettings,
        engine: AsyncEngine,
        group: str,
        topics: tuple[str, str],
        clock: Clock,
    ) -> None:
        self._member = member
        self._kafka = kafka
        self._engine = engine
        self._group = group
        self._topics = topics
        self._clock = clock
        self._stored: Mapping[int, Offsets] = {}
        self._since_s: float | None = None

    async def watch(self, stop: asyncio.Event) -> None:
        """Looks until `stop` is set."""
        while not stop.is_set():
            await self.look()
            try:
                await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
            except TimeoutError:
                continue

    def stalled(self) -> str | None:
        """Why a restart would help; None where it would not."""
        if self._since_s is None or self._member.held is not None:
            return None
        waited_s = self._clock.monotonic_s() - self._since_s
        if waited_s <= STALLED_S:
            return None
        return f"{self._group} has stored nothing for {waited_s:.0f} s although there is something to read"

    async def look(self) -> None:
        """One look; never raises. Whatever cannot be seen is no reason to restart."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                stands_still = await self._stands_still()
        except NOT_TO_BE_SEEN:
            stands_still = False
        if not stands_still:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = self._clock.monotonic_s()

    async def _stands_still(self) -> bool:
        async with self._engine.connect() as connection:
            everything = await stored_offsets(connection, self._group)
        stored = {number: everything.get(number, (0, 0)) for number in self._member.wanted}
        moved, self._stored = stored != self._stored, stored
        return not moved and self._member.held is None and bool(stored) and await self._something_to_read(stored)

    async def _something_to_read(self, stored: Mapping[int, Offsets]) -> bool:
        """Whether another client finds a record behind what is stored. An end offset alone may be a transaction's."""
        places = {
            TopicPartition(topic, number): offset
            for number, offsets in stored.items()
            for topic, offset in zip(self._topics, offsets, strict=True)
        }
        reader = AIOKafkaConsumer(**client_options(self._kafka, "telemetry-progress"), auto_offset_reset="earliest")
        try:
            await reader.start()
            ends = await reader.end_offsets(list(places))
            behind = {pair: offset for pair, offset in places.items() if offset < ends[pair]}
            return bool(behind) and await _can_read(reader, behind)
        finally:
            await reader.stop()


async def _can_read(reader: AIOKafkaConsumer, places: Mapping[TopicPartition, int]) -> bool:
    reader.assign(list(places))
    for pair, offset in places.items():
        reader.seek(pair, offset)
    try:
        return bool(await reader.getmany(timeout_ms=READ_MS, max_records=1))
    except UnicodeDecodeError:
        return True  # a header's name that the client cannot read is a record all the same
