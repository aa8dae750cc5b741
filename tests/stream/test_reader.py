"""Reading a topic once, from here to its end."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from telemetry_svc import topics
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.reader import Edge, TopicReader
from telemetry_svc.stream.topics import BrokerUnavailable

PAIR = TopicPartition(topics.CALLS, 0)


async def test_it_ends_where_the_topic_ended_when_it_was_asked(
    kafka: KafkaSettings, clean_topics: None, producer: AIOKafkaProducer
) -> None:
    async with TopicReader(kafka) as reader:
        begin = (await reader.edges([topics.CALLS]))[PAIR].end
        for number in range(3):
            await producer.send_and_wait(topics.CALLS, str(number).encode(), partition=0)
        edges = await reader.edges([topics.CALLS])
        await producer.send_and_wait(topics.CALLS, b"too late", partition=0)
        read = [record.value async for record in reader.read({PAIR: begin}, {PAIR: edges[PAIR]})]
    assert read == [b"0", b"1", b"2"]


async def test_a_broker_that_says_nothing_is_not_waited_for_without_an_end(
    kafka: KafkaSettings, clean_topics: None
) -> None:
    async with asyncio.timeout(30), TopicReader(kafka, answer_s=1.5) as reader:
        end = (await reader.edges([topics.CALLS]))[PAIR].end
        with pytest.raises(BrokerUnavailable, match="answers no more"):
            _ = [record async for record in reader.read({PAIR: end}, {PAIR: Edge(end, end + 1)})]
