"""Headers whose names aiokafka cannot decode: nothing is lost, in no partition, and reading goes on (decision 3)."""

import struct

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import CorruptRecordException
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.stream.batch import APPEND_TIME
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.lenient import read_log
from tests.ingest.pipeline import ping, running_pipeline
from tests.stream.odd_batches import BAD_NAME_READ, CODECS, batch_of, broken_lz4, send_raw
from tests.stream.rig import PARTITIONS, Rig, until

PAIR = TopicPartition("t", 3)


async def send(rig: Rig, partition: int, batch: bytes, *values: bytes, second: bool = False) -> int:
    """Sends a batch of these values and expects them to be stored."""
    topic = rig.topics[second]
    first = await send_raw(rig.producer, topic, partition, batch)
    rig.sent += [(topic, partition, first + place, value) for place, value in enumerate(values)]
    return first


async def send_odd(
    rig: Rig, partition: int, *values: bytes, bad: range, codec: str = "none", second: bool = False
) -> None:
    records = [(b"k", value, place in bad) for place, value in enumerate(values)]
    await send(rig, partition, batch_of(records, CODECS[codec]), *values, second=second)


def values(tag: str, count: int) -> list[bytes]:
    return [f"{tag}{number}".encode() for number in range(count)]


async def go_on(rig: Rig) -> None:
    """All that was sent is stored once and in order, and so is what comes after it."""
    rig.assert_exactly_once(await rig.until_all_seen())
    for partition in range(PARTITIONS):
        await rig.produce(partition, *values("later", 3))
    rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    sent = {record[:3]: record[3].decode() for record in rig.sent}
    assert {(row["topic"], row["partition"], row["topic_offset"]): row["value"] for row in rows} == sent


@pytest.mark.parametrize("codec", CODECS)
async def test_good_records_around_a_bad_name_and_in_other_partitions(rig: Rig, codec: str) -> None:
    for partition in range(PARTITIONS):
        await rig.produce(partition, *values("before", 5))
        await rig.produce(partition, *values("command", 5), second=True)
    await send_odd(rig, 1, *values("odd", 9), bad=range(4, 5), codec=codec)
    await rig.produce(1, *values("after", 5))
    async with rig.member() as member:
        await go_on(rig)
    assert (member.counted("failed_batches"), member.counted("offset_gaps"), await rig.gaps()) == (0, 0, [])


@pytest.mark.parametrize("max_records", [3, 40], ids=["small", "middling"])
async def test_many_bad_names_in_both_topics_in_small_steps(rig: Rig, max_records: int) -> None:
    for partition in range(PARTITIONS):
        await rig.produce(partition, *values("good", 20))
        await send_odd(rig, partition, *values("odd", 20), bad=range(20), codec="gzip")
        await send_odd(rig, partition, *values("second", 7), bad=range(1), second=True)
    async with rig.member(max_records=max_records) as member:
        await go_on(rig)
    assert member.counted("failed_batches") == 0
    assert max(batch.size for batch in member.probe.batches) <= max(max_records, 2 * PARTITIONS)


async def test_a_bad_name_that_comes_while_all_is_well(rig: Rig) -> None:
    async with rig.member() as member:
        for turn in range(3):
            await send_odd(rig, turn, *values(f"odd{turn}-", 3), bad=range(2, 3))
            await go_on(rig)
        last = [
            record.headers for batch in member.probe.batches for record in batch.records() if record.value == b"odd2-2"
        ]
    assert last == [(("good", b"1"), (BAD_NAME_READ, b"2"), ("null", None))]
    assert (member.counted("failed_batches"), await rig.gaps()) == (0, [])


async def test_a_batch_that_cannot_be_unpacked_is_a_gap_and_one_dead_letter(rig: Rig) -> None:
    for partition in range(PARTITIONS):
        await rig.produce(partition, *values("before", 5))
    records = [(b"k", b"lost" * 50, False)] * 4
    first = await send_raw(rig.producer, rig.topics[0], 2, batch_of(records, (3, broken_lz4)))
    rig.sent.append((rig.topics[0], 2, first, b""))
    await rig.produce(2, *values("after", 5))
    async with rig.member() as member:
        rows = await rig.until_all_seen()
        await rig.produce(0, b"later")
        rows = await rig.until_all_seen()
        await until(lambda: member.counted("offset_gaps") == 1)
    rig.assert_exactly_once(rows)
    assert [(row["topic_offset"], row["poison"]) for row in rows if row["poison"]] == [
        (first, "a batch that cannot be decoded: DecompressionError")
    ]
    assert await rig.gaps() == [(rig.topics[0], 2, first, first + 4)]
    assert member.counted("failed_batches") == 0


@pytest.mark.usefixtures("clean_database", "clean_topics")
async def test_through_ingest_the_header_is_no_part_of_the_ping(
    kafka: KafkaSettings, engine: AsyncEngine, producer: AIOKafkaProducer
) -> None:
    machine_id = "ZE215-000017"
    good = ping(machine_id, "2026-11-22T04:20:31Z", hour_meter_h=249.9)
    async with running_pipeline(kafka, engine) as pipeline:
        await pipeline.register(machine_id)
        await pipeline.settle()
        [(partition,)] = await pipeline.rows("SELECT partition FROM machine_state")
        key = machine_id.encode()
        batch = batch_of([(key, good, True), (key, None, True)])
        first = await send_raw(producer, topics.PINGS, partition, batch)
        await pipeline.settle()
        stored = "SELECT topic_offset FROM ping UNION ALL SELECT topic_offset FROM ping_outlier"
        assert await pipeline.rows(stored) == [(first,)]
        letters = await pipeline.rows("SELECT error_class, topic_offset, record_headers FROM dead_letter")
        [letter] = [one for one in await pipeline.topic(topics.DEAD_LETTERS) if one.key == key]
    assert letters == [("malformed", first + 1, [["good", "MQ=="], [BAD_NAME_READ, "Mg=="], ["null", None]])]
    assert letter.headers[:3] == (("good", b"1"), (BAD_NAME_READ, b"2"), ("null", None))


async def test_a_wrong_checksum_is_no_gap() -> None:
    batch = bytearray(batch_of([(b"k", b"v", True)]))
    batch[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        read_log(PAIR, bytes(batch), 0, 10)


def test_a_control_batch_and_one_that_was_cut_off_give_nothing() -> None:
    control = batch_of([(b"k", b"v", True)] * 2, (0x20, bytes))
    whole = batch_of([(b"k", b"v", True)] * 2)
    reading = read_log(PAIR, control + whole[:-1], 0, 10)
    assert (reading.records, reading.after, reading.gap) == ({PAIR: []}, {PAIR: 2}, None)


def test_the_time_is_the_brokers_where_the_topic_says_so() -> None:
    batch = batch_of([(b"k", b"v", True)], (0x08, bytes))
    [max_ms] = struct.unpack_from(">q", batch, 35)
    [record] = read_log(PAIR, batch, 0, 10).records[PAIR]
    assert (record.timestamp, record.timestamp_type) == (max_ms, APPEND_TIME)


@given(
    records=st.lists(
        st.tuples(st.none() | st.binary(), st.none() | st.binary(max_size=200), st.booleans()), min_size=1
    ),
    start=st.integers(0, 100),
    at_most=st.integers(1, 100),
)
def test_what_was_written_is_read_in_steps_of_any_size(
    records: list[tuple[bytes | None, bytes | None, bool]], start: int, at_most: int
) -> None:
    raw, after, found = batch_of(records, CODECS["gzip"]), min(start, len(records) - 1), []
    expected = [(offset, *record) for offset, record in enumerate(records)][after:]
    while after < len(records):
        reading = read_log(PAIR, raw, after, at_most)
        assert 0 < len(reading.records[PAIR]) <= at_most
        found += [(one.offset, one.key, one.value, one.headers[1][0] == BAD_NAME_READ) for one in reading.records[PAIR]]
        after = reading.after[PAIR]
    assert found == expected


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_nothing_in_a_batch_raises_what_is_not_named(place: int, byte: int) -> None:
    """The body damaged before it was packed: records before the damage, or a gap to the end of the batch."""

    def damage(body: bytes) -> bytes:
        at = place % len(body)
        return body[:at] + bytes([byte]) + body[at + 1 :]

    reading = read_log(PAIR, batch_of([(b"k", b"v" * 9, True)] * 4, (0, damage)), 0, 10)
    if reading.gap is not None:
        assert reading.gap.from_offset < reading.gap.to_offset == reading.after[PAIR]
    assert reading.after[PAIR] > 0
