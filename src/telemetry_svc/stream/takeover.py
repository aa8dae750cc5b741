"""Becoming the owner of partitions: a new epoch in PostgreSQL, then a seek in Kafka (design.md, decision 2).

The owner keeps one pinned connection; its backend is written down at the takeover, so that the next owner can end a
session that sleeps on the row lock.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec.structs import asdict, replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store.gaps import Gap, add_gap
from telemetry_svc.store.ownership import Move, Owned, advance, take_over, terminate_owners
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, refusal_of
from telemetry_svc.stream.kafka import BROKER_TIMEOUT_S
from telemetry_svc.stream.metrics import ConsumerMetrics

log = structlog.get_logger(__name__)


class OffsetsAheadError(KafkaError):
    """The broker ends before what the database has read. Nothing may be stored: its offsets mean something else."""


class Takeover:
    """The pinned connection of one group member and what is done on it before the first batch."""

    def __init__(
        self,
        engine: AsyncEngine,
        consumer: AIOKafkaConsumer,
        group: str,
        topics: tuple[str, str],
        metrics: ConsumerMetrics,
    ) -> None:
        self._engine = engine
        self._consumer = consumer
        self._group = group
        self._topics = topics
        self._metrics = metrics
        self._connection: AsyncConnection | None = None

    async def connection(self) -> AsyncConnection:
        """The pinned connection. Raises one of `DATABASE_ERRORS` where it is lost: only a takeover opens a new one."""
        if self._connection is None:
            message = "the pinned connection is gone"
            raise ConnectionError(message)
        return self._connection

    async def take(self, partitions: Collection[int]) -> list[Owned]:
        """Takes the partitions over and seeks both topics to where PostgreSQL says."""
        starts = await self._edges(partitions)
        connection = await self._pin()
        owned = await self._claim(connection, starts)
        await self._refuse_what_is_ahead(owned)
        owned = [await self._bridge(connection, one, starts[one.partition]) for one in owned]
        for one in owned:
            for topic, offset in zip(self._topics, one.next_offsets, strict=True):
                self._consumer.seek(TopicPartition(topic, one.partition), offset)
        self._metrics.takeovers.inc(len(owned))
        log.info("partitions taken over", group=self._group, partitions=[one.partition for one in owned])
        return owned

    async def close(self) -> None:
        """Gives the pinned connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def hang_up(self) -> None:
        """Drops the pinned connection without a word to the server, and so whatever waits for its answer."""
        pinned = None if self._connection is None else self._connection.sync_connection
        if pinned is not None and not pinned.closed and not pinned.invalidated:
            driver: Any = pinned.connection.driver_connection
            driver.terminate()

    async def _pin(self) -> AsyncConnection:
        """A connection that answers; the one before is closed for good if it does not."""
        if self._connection is not None:
            try:
                async with self._connection.begin():
                    await self._connection.execute(text("SELECT 1"))
            except DATABASE_ERRORS:
                await self._discard()
        if self._connection is None:
            self._connection = await self._engine.connect()
        return self._connection

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()

    async def _edges(self, partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
        pairs = [TopicPartition(topic, number) for number in partitions for topic in self._topics]
        begin = await asyncio.wait_for(self._consumer.beginning_offsets(pairs), BROKER_TIMEOUT_S)
        first, second = self._topics
        return {
            number: (begin[TopicPartition(first, number)], begin[TopicPartition(second, number)])
            for number in partitions
        }

    async def _refuse_what_is_ahead(self, owned: list[Owned]) -> None:
        """The database has read further than the broker has written: another broker, or one that lost its log."""
        pairs = {
            TopicPartition(topic, one.partition): offset
            for one in owned
            for topic, offset in zip(self._topics, one.next_offsets, strict=True)
        }
        ends = await asyncio.wait_for(self._consumer.end_offsets(list(pairs)), BROKER_TIMEOUT_S)
        for pair, offset in pairs.items():
            if offset > ends[pair]:
                raise OffsetsAheadError(
                    f"{pair.topic} partition {pair.partition} ends at offset {ends[pair]}, but the database has read "
                    f"up to {offset}: this is another broker than before, or it has lost records;"
                    " `telemetry-svc recover` says what to do"
                )

    async def _claim(self, connection: AsyncConnection, starts: Mapping[int, tuple[int, int]]) -> list[Owned]:
        try:
            async with connection.begin():
                return await take_over(connection, self._group, starts)
        except DATABASE_ERRORS as error:
            if refusal_of(error) is not Refusal.LOCKED:
                raise
        async with connection.begin():
            ended = await terminate_owners(connection, self._group, list(starts))
        log.warning("ended sessions that held our partitions", group=self._group, sessions=ended)
        async with connection.begin():
            return await take_over(connection, self._group, starts)

    async def _bridge(self, connection: AsyncConnection, owned: Owned, begin: tuple[int, int]) -> Owned:
        """Where retention has deleted unread records: note the gap and begin behind it (decision 3, fault 8)."""
        first, second = owned.next_offsets
        after = (max(first, begin[0]), max(second, begin[1]))
        if after == owned.next_offsets:
            return owned
        async with connection.begin():
            await advance(
                connection,
                self._group,
                [Move(owned.partition, owned.epoch, owned.next_offsets, after, owned.apply_seq)],
            )
            for topic, from_offset, to_offset in zip(self._topics, owned.next_offsets, after, strict=True):
                if to_offset > from_offset:
                    reason = "deleted by retention before it was read"
                    gap = Gap(topic, owned.partition, from_offset, to_offset, reason)
                    await note_gap(connection, gap, self._metrics)
        return replace(owned, next_offsets=after)


async def note_gap(connection: AsyncConnection, gap: Gap, metrics: ConsumerMetrics) -> None:
    """Writes the gap down in the transaction that moves the offset behind it, counts it and says so."""
    await add_gap(connection, gap)
    metrics.gaps.inc()
    log.error("records are gone", **asdict(gap))
