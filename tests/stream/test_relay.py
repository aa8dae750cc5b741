"""The outbox relay on the real broker and database: everything goes out, in order per key; what cannot is parked."""

import asyncio
import random
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.store.outbox import Headers, OutboxMessage, enqueue, lock_waiting
from telemetry_svc.stream import relay as relaying
from telemetry_svc.stream.kafka import KafkaSettings, partition_of
from telemetry_svc.stream.relay import OutboxRelay
from tests.stream.mail import PARTITIONS, Mailbox, new_mailbox, numbered

MIB = 1024 * 1024


@pytest.fixture
async def mailbox(
    kafka: KafkaSettings, engine: AsyncEngine, admin: AIOKafkaAdminClient, clean_database: None
) -> Mailbox:
    return await new_mailbox(kafka, engine, admin)


async def drain(relay: OutboxRelay) -> int:
    """Passes until nothing waits; how many rows that were."""
    sent, total = 1, 0
    while sent:
        sent = await relay.relay_once()
        total += sent
    return total


async def close(*relays: OutboxRelay) -> None:
    stop = asyncio.Event()
    stop.set()
    await asyncio.gather(*(relay.run(stop) for relay in relays))


async def test_rows_go_out_in_order_to_the_partition_of_their_key(mailbox: Mailbox) -> None:
    keys = [f"M-{number}" for number in range(10)]
    for value in numbered(30):
        await mailbox.enqueue(*(mailbox.message(key, value) for key in keys))
    relay = mailbox.relay()
    assert await drain(relay) == 300
    await close(relay)
    arrived = await mailbox.arrived()
    for key in keys:
        mine = [one for one in arrived if one.key == key.encode()]
        assert [one.value for one in mine] == list(numbered(30))
        assert {one.partition for one in mine} == {partition_of(key.encode(), PARTITIONS)}
    assert len(arrived) == 300
    assert await mailbox.waiting() == 0


async def test_headers_null_values_and_named_partitions_arrive_as_they_were(mailbox: Mailbox) -> None:
    headers = (("content-type", b"application/json"), ("x", b""), ("x", None), ("x", b"\xff\x00"), ("größe", b"1"))
    messages = [
        OutboxMessage(mailbox.topic, b"M-1", b"value", headers),
        OutboxMessage(mailbox.topic, b"M-1", None),
        OutboxMessage(mailbox.topic, None, b"tick", (), 3),
        OutboxMessage(mailbox.topic, None, b"tick", (), 0),
        OutboxMessage(mailbox.topic, b"\xff\xfe", b"", headers, 2),
    ]
    await mailbox.enqueue(*messages)
    relay = mailbox.relay()
    await drain(relay)
    await close(relay)
    arrived = await mailbox.arrived()
    assert sorted((one.key or b"", one.value or b"", one.headers) for one in arrived) == sorted(
        (message.key or b"", message.value or b"", message.headers) for message in messages
    )
    assert [one.value for one in arrived if one.key == b"M-1"] == [b"value", None]
    assert {one.partition: one.value for one in arrived if one.key != b"M-1"} == {3: b"tick", 0: b"tick", 2: b""}


async def test_two_relays_at_once_keep_the_order_of_a_key(mailbox: Mailbox) -> None:
    """They share the buckets; rows keep coming while they run."""
    stop = asyncio.Event()
    relays = [mailbox.relay(), mailbox.relay()]
    running = [asyncio.create_task(relay.run(stop)) for relay in relays]
    keys = [f"M-{number}" for number in range(8)]
    for value in numbered(60):
        await mailbox.enqueue(*(mailbox.message(key, value) for key in keys))
    async with asyncio.timeout(30):
        while await mailbox.waiting():  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*running)
    arrived = await mailbox.arrived()
    assert len(arrived) == 480
    for key in keys:
        assert [one.value for one in arrived if one.key == key.encode()] == list(numbered(60))


async def test_a_bucket_that_another_relay_holds_is_left_to_it(mailbox: Mailbox) -> None:
    await mailbox.enqueue(*(mailbox.message("M-1", value) for value in numbered(3)))
    relay = mailbox.relay()
    async with mailbox.engine.begin() as other:
        assert len(await lock_waiting(other, buckets=64, rows=1)) == 1
        assert await relay.relay_once() == 0
    assert await drain(relay) == 3
    await close(relay)
    assert await mailbox.values_of("M-1") == list(numbered(3))


async def test_a_row_too_large_is_parked_and_the_others_go_out(mailbox: Mailbox) -> None:
    await mailbox.enqueue(
        mailbox.message("M-1", b"before"),
        mailbox.message("M-1", b"x" * (2 * MIB + 1)),
        mailbox.message("M-1", b"after"),
        mailbox.message("M-2", b"other"),
    )
    relay = mailbox.relay()
    assert await drain(relay) == 4
    await close(relay)
    assert await mailbox.values_of("M-1") == [b"before", b"after"]
    assert await mailbox.values_of("M-2") == [b"other"]
    assert (await mailbox.parked(), await mailbox.waiting()) == (1, 0)


async def test_a_burst_larger_than_a_record_batch_goes_out_in_several(mailbox: Mailbox) -> None:
    """A topic with the broker's own limit (1 MiB a batch), and 3 MB for one key."""
    values = [value + b"x" * 10_000 for value in numbered(300)]
    await mailbox.enqueue(*(mailbox.message("M-1", value) for value in values))
    relay = mailbox.relay()
    assert await drain(relay) == 300
    await close(relay)
    assert await mailbox.values_of("M-1") == values


async def test_a_row_larger_than_its_own_topic_takes_is_parked(mailbox: Mailbox) -> None:
    """Only the dead letters may be up to 2 MiB."""
    await mailbox.enqueue(mailbox.message("M-1", b"x" * (MIB + MIB // 2)), mailbox.message("M-1", b"after"))
    relay = mailbox.relay()
    assert await drain(relay) == 2
    await close(relay)
    assert await mailbox.values_of("M-1") == [b"after"]
    assert await mailbox.parked() == 1


@pytest.mark.parametrize(
    ("letters", "value", "headers"),
    [
        (2, b"v" * MIB, tuple((f"h{number}" * 100, b"x" * 1024) for number in range(400))),
        (1, b"v", (("a", b""),) * 200_000),
    ],
    ids=["few_large_headers", "many_tiny_headers"],
)
async def test_the_largest_dead_letters_go_out(
    mailbox: Mailbox, clean_topics: None, letters: int, value: bytes, headers: Headers
) -> None:
    """A value cut at 1 MiB and a key; headers as large, or as many, as a record could have them."""
    letter = OutboxMessage(topics.DEAD_LETTERS, b"k" * 1024, value, headers)
    await mailbox.enqueue(*[letter] * letters)
    relay = mailbox.relay()
    assert await drain(relay) == letters
    await close(relay)
    assert await mailbox.waiting() == 0
    async with mailbox.engine.connect() as connection:
        query = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL AND parked_reason IS NULL"
        assert (await connection.execute(text(query))).scalar_one() == letters


@given(
    key=st.none() | st.binary(max_size=300),
    value=st.none() | st.binary(max_size=20_000),
    headers=st.lists(st.tuples(st.text(max_size=100), st.none() | st.binary(max_size=300)), max_size=150),
)
def test_a_row_is_charged_what_it_takes_on_the_wire(key: bytes | None, value: bytes | None, headers: list[Any]) -> None:
    """Never less, or the broker refuses the batch; hardly more, or what fits is parked."""
    batch: Any = BatchBuilder(2 * MIB, 0)
    before = batch.size()
    batch.append(timestamp=None, key=key, value=value, headers=headers)
    charged = relaying._size(OutboxMessage("t", key, value, tuple(headers)))
    assert batch.size() - before <= charged <= batch.size() - before + relaying.RECORD_OVERHEAD


async def test_rows_that_commit_late_go_out_all_the_same(mailbox: Mailbox) -> None:
    """Ids are given at insert, not at commit: a cursor over ids would step over the slow one (decision 12)."""
    relay = mailbox.relay()
    async with mailbox.engine.connect() as slow:
        transaction = await slow.begin()
        await enqueue(slow, [mailbox.message("M-slow", b"first id")])
        for number in range(5):
            await mailbox.enqueue(mailbox.message(f"M-{number}", b"later id"))
        assert await drain(relay) == 5
        await transaction.commit()
    assert await drain(relay) == 1
    await close(relay)
    assert await mailbox.values_of("M-slow") == [b"first id"]


async def test_what_was_rolled_back_never_goes_out(mailbox: Mailbox) -> None:
    async with mailbox.engine.connect() as connection:
        transaction = await connection.begin()
        await enqueue(connection, [mailbox.message("M-1", b"phantom")])
        await transaction.rollback()
    relay = mailbox.relay()
    assert await drain(relay) == 0
    await close(relay)
    assert await mailbox.arrived() == []


async def test_keys_of_all_buckets_go_out_in_one_pass(mailbox: Mailbox) -> None:
    order = random.Random(7)
    messages = [mailbox.message(f"M-{number}", b"v") for number in range(400)]
    order.shuffle(messages)
    await mailbox.enqueue(*messages)
    relay = mailbox.relay()
    assert await relay.relay_once() == 400
    await close(relay)
    assert {one.key for one in await mailbox.arrived()} == {message.key for message in messages}
