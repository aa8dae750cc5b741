"""Gives records that carry their producer's time the broker's (docs/recovery.md): they cannot be read as they are.

Within each partition all from the first unread record to the last such one are copied behind the rest, in order and
with keys and headers, and deleted where they were; the copies have the broker's time, that of the copying. Broken off
and run again it copies some twice, which is harmless: a repeat is known.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from telemetry_svc.stream.batch import APPEND_TIME
from telemetry_svc.stream.kafka import MAX_RECORD_BYTES, KafkaSettings, client_options
from telemetry_svc.stream.reader import Edge, TopicReader
from telemetry_svc.stream.topics import BrokerUnavailable, delete_before

AT_ONCE = 1_000


class Restamped(Struct, frozen=True):
    """`copied` records of a partition; it begins at `begins` now."""

    copied: int
    begins: int


async def restamp(settings: KafkaSettings, unread: Mapping[TopicPartition, int]) -> dict[TopicPartition, Restamped]:
    """`unread`: from where each partition is to be read. Returns the partitions in which there was such a record.

    Their topics must go by the broker's clock again, and nobody may read them. Raises `BrokerUnavailable`.
    """
    async with TopicReader(settings) as reader:
        edges = await reader.edges({pair.topic for pair in unread})
        known = {pair: offset for pair, offset in unread.items() if pair in edges}
        behind = await _behind_the_last(reader, known, edges)
        old = {pair: Edge(edges[pair].begin, end) for pair, end in behind.items()}
        copied = await _copy(settings, reader, {pair: known[pair] for pair in old}, old)
    if behind:
        await delete_before(settings, behind)
    return {pair: Restamped(copied[pair], end) for pair, end in behind.items()}


async def _behind_the_last(
    reader: TopicReader, starts: Mapping[TopicPartition, int], edges: Mapping[TopicPartition, Edge]
) -> dict[TopicPartition, int]:
    """Of each partition that has a record by its producer's time: the offset behind the last of them."""
    found: dict[TopicPartition, int] = {}
    async for record in reader.read(starts, edges):
        if record.timestamp_type != APPEND_TIME:
            found[TopicPartition(record.topic, record.partition)] = record.offset + 1
    return found


async def _copy(
    settings: KafkaSettings,
    reader: TopicReader,
    starts: Mapping[TopicPartition, int],
    edges: Mapping[TopicPartition, Edge],
) -> Counter[TopicPartition]:
    """How many were copied, each acknowledged."""
    copied = Counter[TopicPartition]()
    options = client_options(settings, "telemetry-recover")
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True, max_request_size=MAX_RECORD_BYTES)
    try:
        async with producer:
            acks = []
            async for one in reader.read(starts, edges):
                place = {"partition": one.partition, "headers": list(one.headers)}
                acks.append(await producer.send(one.topic, one.value, key=one.key, **place))
                copied[TopicPartition(one.topic, one.partition)] += 1
                if len(acks) >= AT_ONCE:
                    await asyncio.gather(*acks)
                    acks = []
            await asyncio.gather(*acks)
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"the Kafka broker at {settings.bootstrap} took no copies: {error}") from error
    return copied
