"""What consumer and relay lean on in Kafka, asked of the real broker and of the simulated one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from tests.simulation.conftest import PARTITIONS, Site


class Listener(ConsumerRebalanceListener):
    """Notes what it is told, and pauses what it is given, as the service's own does."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.heard: list[tuple[str, frozenset[TopicPartition]]] = []

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.heard.append(("revoked", frozenset(revoked)))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        self.heard.append(("assigned", frozenset(assigned)))


@asynccontextmanager
async def member(site: Site) -> AsyncIterator[tuple[AIOKafkaConsumer, Listener]]:
    consumer = site.broker.group_member(site.topics[0])
    listener = Listener(consumer)
    consumer.subscribe(list(site.topics), listener=listener)
    await consumer.start()
    try:
        yield consumer, listener
    finally:
        await consumer.stop()


async def poll(consumer: AIOKafkaConsumer) -> None:
    """Lets the group do its work. That there is no place to read from is said of paused partitions, too."""
    with contextlib.suppress(NoOffsetForPartitionError):
        assert await consumer.getmany(timeout_ms=50) == {}


async def until_given(consumer: AIOKafkaConsumer, pairs: set[TopicPartition]) -> None:
    async with asyncio.timeout(30):
        while set(consumer.assignment()) != pairs:
            await poll(consumer)


async def read(consumer: AIOKafkaConsumer, count: int, **options: Any) -> dict[TopicPartition, list[Any]]:
    """Polls until so many records have come."""
    found: dict[TopicPartition, list[Any]] = {}
    async with asyncio.timeout(30):
        while sum(map(len, found.values())) < count:
            for pair, records in (await consumer.getmany(timeout_ms=200, **options)).items():
                found.setdefault(pair, []).extend(records)
    return found


def every(site: Site, *numbers: int) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for topic in site.topics for number in numbers}


async def test_a_member_alone_has_both_topics_and_reads_from_where_it_was_told(site: Site) -> None:
    pairs = sorted(every(site, *range(PARTITIONS)))
    for pair in pairs:
        for number in range(5):
            assert await site.append(pair, b"k%d" % number, b"v%d" % number) == number
    async with member(site) as (consumer, listener):
        await until_given(consumer, set(pairs))
        assert listener.heard[-1] == ("assigned", frozenset(pairs))
        assert await consumer.beginning_offsets(pairs) == dict.fromkeys(pairs, 0)
        assert await consumer.end_offsets(pairs) == dict.fromkeys(pairs, 5)
        for pair in pairs:
            consumer.seek(pair, 3)
        consumer.resume(*pairs)
        found = await read(consumer, 2 * len(pairs))
        assert {pair: [one.offset for one in records] for pair, records in found.items()} == {
            pair: [3, 4] for pair in pairs
        }
        assert [(one.key, one.value) for one in found[pairs[0]]] == [(b"k3", b"v3"), (b"k4", b"v4")]
        consumer.seek(pairs[0], 0)
        consumer.pause(*pairs[1:])
        assert len((await consumer.getmany(timeout_ms=2_000, max_records=1)).get(pairs[0], [])) <= 1
        await consumer.commit({pairs[0]: 1})


async def test_nothing_is_read_of_what_is_paused_and_all_of_it_afterwards(site: Site) -> None:
    pair, *others = sorted(every(site, *range(PARTITIONS)))
    await site.append(pair, None, b"v")
    async with member(site) as (consumer, _):
        await until_given(consumer, {pair, *others})
        for one in (pair, *others):
            consumer.seek(one, 0)
        assert await consumer.getmany(timeout_ms=300) == {}
        consumer.resume(pair)
        [record] = (await read(consumer, 1))[pair]
        assert (record.key, record.value, tuple(record.headers)) == (None, b"v", ())


async def test_without_a_place_to_read_from_it_says_so(site: Site) -> None:
    """`auto_offset_reset="none"`: a gap is never jumped in silence."""
    pairs = every(site, *range(PARTITIONS))
    pair = min(pairs)
    await site.append(pair, None, b"v")
    async with member(site) as (consumer, _):
        await until_given(consumer, pairs)
        consumer.resume(pair)
        with pytest.raises(NoOffsetForPartitionError):
            await read(consumer, 1)
        for one in pairs:
            consumer.seek(one, 7 if one == pair else 0)
        with pytest.raises(OffsetOutOfRangeError):
            await read(consumer, 1)
        with pytest.raises(IllegalStateError) as illegal:
            consumer.seek(TopicPartition(pair.topic, 99), 0)
        assert isinstance(illegal.value, KafkaError)


async def test_two_members_share_pairs_and_one_that_leaves_gives_them_up(site: Site) -> None:
    pairs = every(site, *range(PARTITIONS))
    async with member(site) as (first, heard):
        await until_given(first, pairs)
        async with member(site) as (second, _):
            async with asyncio.timeout(30):
                while not (len(first.assignment()) == len(second.assignment()) == len(pairs) // 2):
                    await asyncio.gather(poll(first), poll(second))
            assert set(first.assignment()) | set(second.assignment()) == pairs
            for one in (first, second):
                numbers = {pair.partition for pair in one.assignment()}
                assert set(one.assignment()) == every(site, *numbers), "both topics of a partition go together"
        async with asyncio.timeout(30):
            while heard.heard[-1] != ("assigned", frozenset(pairs)):
                await poll(first)
        assert [what for what, _ in heard.heard[-4:]] == ["revoked", "assigned", "revoked", "assigned"]


async def test_a_batch_of_the_relay_arrives_whole_and_in_order(site: Site) -> None:
    producer = site.broker.relay_producer()
    await producer.start()
    try:
        assert await producer.partitions_for(site.topics[0]) == set(range(PARTITIONS))
        batch = producer.create_batch()
        for number in range(3):
            assert batch.append(key=b"k", value=b"v%d" % number, timestamp=None, headers=[("h", b"\xff")])
        assert batch.append(key=None, value=None, timestamp=None, headers=[])
        batch.close()
        await (await producer.send_batch(batch, site.topics[0], partition=1))
    finally:
        await producer.abandon()
    log = await site.log(TopicPartition(site.topics[0], 1))
    assert [(one.offset, one.key, one.value, tuple(one.headers)) for one in log] == [
        (0, b"k", b"v0", (("h", b"\xff"),)),
        (1, b"k", b"v1", (("h", b"\xff"),)),
        (2, b"k", b"v2", (("h", b"\xff"),)),
        (3, None, None, ()),
    ]
