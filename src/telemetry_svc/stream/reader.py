"""Reading topics once, from here to their end, outside of any group: what a recovery needs and nothing else does."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from datetime import datetime
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from telemetry_svc.stream.kafka import KafkaSettings, client_options
from telemetry_svc.stream.topics import BrokerUnavailable, partition_counts

T = TypeVar("T")

READ_MS = 1_000
ANSWER_S = 60.0
"""A broker that says nothing for so long is not there: a person waits for this command."""


class Edge(Struct, frozen=True):
    """The first offset that the broker has of a topic partition, and the one that comes next."""

    begin: int
    end: int


class TopicReader:
    """A client until the end of the block; its errors are `BrokerUnavailable`."""

    def __init__(self, settings: KafkaSettings, answer_s: float = ANSWER_S) -> None:
        self._settings = settings
        self._answer_s = answer_s
        self._client = AIOKafkaConsumer(**client_options(settings, "telemetry-recover"), auto_offset_reset="earliest")

    async def __aenter__(self) -> "TopicReader":
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            await self._client.stop()
            message = f"no Kafka broker answers at {self._settings.bootstrap} (TELEMETRY_KAFKA_BOOTSTRAP)"
            raise BrokerUnavailable(message) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()

    async def edges(self, topics: Collection[str]) -> dict[TopicPartition, Edge]:
        """Of all partitions of the topics that exist."""
        counts = await partition_counts(self._settings)
        pairs = [TopicPartition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]
        begins = await self._answer(self._client.beginning_offsets(pairs))
        ends = await self._answer(self._client.end_offsets(pairs))
        return {pair: Edge(begins[pair], ends[pair]) for pair in pairs}

    async def since(self, edges: Mapping[TopicPartition, Edge], moment: datetime | None) -> dict[TopicPartition, int]:
        """Where records from `moment` on begin; None: all of them."""
        if moment is None:
            return {pair: edge.begin for pair, edge in edges.items()}
        asked = dict.fromkeys(edges, int(moment.timestamp() * 1000))
        found = await self._answer(self._client.offsets_for_times(asked))
        return {pair: edge.end if found[pair] is None else found[pair].offset for pair, edge in edges.items()}

    async def read(
        self, starts: Mapping[TopicPartition, int], edges: Mapping[TopicPartition, Edge]
    ) -> AsyncIterator[Any]:
        """The records from `starts` up to the ends known by `edges`, in order within a partition."""
        left = {pair: edges[pair].end for pair, start in starts.items() if start < edges[pair].end}
        if left:  # a client that was assigned nothing does not stop any more (aiokafka 0.14)
            self._client.assign(list(left))
        for pair in left:
            self._client.seek(pair, max(starts[pair], edges[pair].begin))
        came_at = time.monotonic()
        while left:
            for pair, records in (await self._client.getmany(*left, timeout_ms=READ_MS)).items():
                for record in records:
                    if record.offset < left[pair]:
                        yield record
                came_at = time.monotonic()
            if time.monotonic() - came_at > self._answer_s:
                raise self._silent()
            left = {pair: end for pair, end in left.items() if await self._answer(self._client.position(pair)) < end}

    async def _answer(self, asked: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(asked, self._answer_s)
        except (KafkaError, TimeoutError) as error:
            raise self._silent() from error

    def _silent(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"the Kafka broker at {self._settings.bootstrap} answers no more: run this again")
