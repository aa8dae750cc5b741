"""Whether a consumer gets on with what there is to read, seen from outside (design.md, decision 15; fault 12).

A member that is alive and silent cannot be asked: its own client may be what is stuck. So its progress is what
PostgreSQL has stored, and what is left to read is what another client can read there, each partition of each topic by
itself: a tick a minute is no progress of the pings. Only a restart mends such a member, so it is not counted while the
database or the broker does not answer, or a pause is in force.
"""

import asyncio
from collections.abc import Mapping
from operator import itemgetter
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import Clock, pause
from telemetry_svc.store.ownership import Offsets, stored_offsets
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.kafka import KafkaSettings, client_options

STALLED_S = 90.0
LOOK_EVERY_S = 10.0
LOOK_TIMEOUT_S = 20.0
READ_MS = 3_000
UNSEEN = "the broker or the database does not answer"
NOT_TO_BE_SEEN: tuple[type[Exception], ...] = (KafkaError, *DATABASE_ERRORS)


class Watched(Protocol):
    """What is asked of a group member: what it was given, and why it reads nothing, if it is not meant to."""

    @property
    def wanted(self) -> frozenset[int]: ...

    @property
    def held(self) -> str | None: ...


class Progress:
    """Looks at one member of `group` every `LOOK_EVERY_S`. `unseen`: why the last look saw nothing, if it did not."""

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
        self._stored: Mapping[TopicPartition, int] = {}
        self._since_s: Mapping[TopicPartition, float] = {}
        self.unseen: str | None = None

    async def watch(self, stop: asyncio.Event) -> None:
        """Looks until `stop` is set."""
        while not stop.is_set():
            await self.look()
            await pause(stop, LOOK_EVERY_S)

    def stalled(self) -> str | None:
        """Why a restart would help; None where it would not."""
        if not self._since_s or self._member.held is not None:
            return None
        pair, since_s = min(self._since_s.items(), key=itemgetter(1))
        waited_s = self._clock.monotonic_s() - since_s
        if waited_s <= STALLED_S:
            return None
        where = f"{pair.topic} partition {pair.partition}"
        return f"{self._group} has stored nothing of {where} for {waited_s:.0f} s although there is something to read"

    async def look(self) -> None:
        """One look; never raises. Whatever cannot be seen is no reason to restart."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                still = await self._standing_still()
        except NOT_TO_BE_SEEN:
            still, self.unseen = set(), UNSEEN
        else:
            self.unseen = None
        now_s = self._clock.monotonic_s()
        self._since_s = {pair: self._since_s.get(pair, now_s) for pair in still}

    async def _standing_still(self) -> set[TopicPartition]:
        """Of the places of this member those that have not moved since the last look, with something behind them."""
        async with self._engine.connect() as connection:
            everything = await stored_offsets(connection, self._group)
        before, self._stored = self._stored, self._places(everything)
        moved = {pair for pair, offset in self._stored.items() if before.get(pair) != offset}
        if self._member.held is not None or moved == self._stored.keys():
            return set()
        return await self._left_lying(self._stored, moved)

    def _places(self, stored: Mapping[int, Offsets]) -> Mapping[TopicPartition, int]:
        return {
            TopicPartition(topic, number): offset
            for number in self._member.wanted
            for topic, offset in zip(self._topics, stored.get(number, (0, 0)), strict=True)
        }

    async def _left_lying(
        self, places: Mapping[TopicPartition, int], moved: set[TopicPartition]
    ) -> set[TopicPartition]:
        """Where another client finds a record behind what is stored. An end offset alone may be a transaction's.

        Nothing lies there as long as one that has moved has more: in a backlog each waits for its turn.
        """
        reader = AIOKafkaConsumer(**client_options(self._kafka, "telemetry-progress"), auto_offset_reset="earliest")
        try:
            await reader.start()
            ends = await reader.end_offsets(list(places))
            behind = {pair: offset for pair, offset in places.items() if offset < ends[pair]}
            return set() if not behind or behind.keys() & moved else await _readable(reader, behind)
        finally:
            await reader.stop()


async def _readable(reader: AIOKafkaConsumer, places: Mapping[TopicPartition, int]) -> set[TopicPartition]:
    reader.assign(list(places))
    for pair, offset in places.items():
        reader.seek(pair, offset)
    found: set[TopicPartition] = set()
    try:
        while rest := places.keys() - found:
            if not (read := await reader.getmany(*rest, timeout_ms=READ_MS, max_records=1)):
                break
            found |= read.keys()
    except UnicodeDecodeError:
        return set(places)  # a header's name that the client cannot read is a record all the same
    return found
