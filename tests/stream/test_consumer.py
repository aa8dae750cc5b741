"""One member on the real broker and database: each record once and in order, whatever goes wrong in between."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.stream.batch import Batch, HeldBack
from tests.stream.rig import PARTITIONS, POISON, Probe, Rig, until


def values(count: int, tag: str = "v") -> Sequence[bytes]:
    return [f"{tag}{number}".encode() for number in range(count)]


async def fill(rig: Rig, count: int, tag: str = "v") -> None:
    """Records for both topics of each partition."""
    for partition in range(PARTITIONS):
        await rig.produce(partition, *values(count, tag))
        await rig.produce(partition, *values(count // 2, f"{tag}-second-"), second=True)


async def test_both_topics_are_stored_once_and_in_order(rig: Rig) -> None:
    await fill(rig, 50)
    async with rig.member(max_records=60) as member:
        rows = await rig.until_all_seen()
        assert member.consumer.owned == frozenset(range(PARTITIONS))
    rig.assert_exactly_once(rows)
    assert [row["value"] for row in rows if row["partition"] == 2 and row["topic"] == rig.topics[0]] == [
        value.decode() for value in values(50)
    ]
    assert member.counted("records") == len(rig.sent)
    assert (member.counted("failed_batches"), member.counted("fenced_batches"), await rig.gaps()) == (0, 0, [])
    assert member.counted("redelivered_records") == 0


async def test_a_restart_goes_on_where_it_stopped(rig: Rig) -> None:
    for run in range(3):
        await fill(rig, 20, f"run{run}-")
        async with rig.member() as member:
            await rig.until_all_seen()
        assert member.counted("records") == len(rig.sent) / (run + 1)
        assert {row["owner_epoch"] for row in (await rig.owners()).values()} == {run + 1}
    rig.assert_exactly_once(await rig.seen())


async def test_what_kafka_believes_was_read_counts_for_nothing(rig: Rig) -> None:
    """The offsets in PostgreSQL are put back, as a restored backup has them; Kafka's hint stands at the end."""
    await rig.produce(0, *values(10))
    async with rig.member():
        await rig.until_all_seen()
    async with rig.engine.begin() as connection:
        for table, column in (("partition_owner", "group_name"), ("probe.seen", "team")):
            await connection.execute(text(f"DELETE FROM {table} WHERE {column} = :group"), {"group": rig.group})
    async with rig.member():
        rig.assert_exactly_once(await rig.until_all_seen())


async def test_lag_tools_see_no_lag_once_all_is_stored(rig: Rig, admin: AIOKafkaAdminClient) -> None:
    """Also of the last batch, after which nothing comes."""
    ends = {TopicPartition(topic, partition): 0 for topic in rig.topics for partition in range(PARTITIONS)}
    async with rig.member():
        for number in range(3):
            await fill(rig, 5, f"{number}-")
            await rig.until_all_seen()
        ends |= {TopicPartition(topic, partition): offset + 1 for topic, partition, offset, _ in rig.sent}
        async with asyncio.timeout(10):
            while await hinted(rig, admin) != ends:  # noqa: ASYNC110 - the broker tells by asking
                await asyncio.sleep(0.05)


async def hinted(rig: Rig, admin: AIOKafkaAdminClient) -> dict[TopicPartition, int]:
    found = await admin.list_consumer_group_offsets(rig.group)
    return {pair: one.offset for pair, one in found.items()}


async def test_stop_finishes_the_batch_in_hand(rig: Rig) -> None:
    await rig.produce(0, *values(10))
    inside = False

    async def stop(_connection: AsyncConnection, _batch: Batch) -> None:
        nonlocal inside
        inside = True
        member._stop.set()

    async with rig.member() as member:
        member.probe.inside = stop
        await until(lambda: inside)
    rows = await rig.seen()
    assert rows
    assert len(member.probe.batches) == 1
    assert (await rig.owners())[0]["next_offset_a"] == len(rows)


@pytest.mark.parametrize(("place", "second"), [(0, False), (7, True), (15, False)], ids=["first", "amid", "last"])
async def test_a_poisoned_record_is_found_and_its_neighbours_are_stored(rig: Rig, place: int, second: bool) -> None:
    mixed = [*values(16)]
    mixed[place] = POISON
    await rig.produce(0, *mixed, second=second)
    await rig.produce(0, *values(5), second=not second)
    await rig.produce(1, *values(5))
    async with rig.member() as member:
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert [(row["topic"], row["topic_offset"]) for row in rows if row["poison"]] == [(rig.topics[second], place)]
    assert [batch.size for batch in member.probe.batches if batch.poison] == [1]
    assert member.counted("bisected_batches") >= 1
    assert member.counted("failed_batches") == 0


async def test_every_record_may_be_poison(rig: Rig) -> None:
    await rig.produce(0, *[POISON] * 9)
    async with rig.member() as member:
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert all(row["poison"] for row in rows)
    assert member.counted("failed_batches") == 0


async def test_a_session_that_is_killed_costs_a_retry_and_nothing_else(rig: Rig) -> None:
    await fill(rig, 30)
    kills = 0

    async def end_own_session(connection: AsyncConnection, batch: Batch) -> None:
        nonlocal kills
        if kills < 3 and batch.size:
            kills += 1
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with rig.member(max_records=40) as member:
        member.probe.inside = end_own_session
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert (kills, member.counted("failed_batches")) == (3, 3)
    assert member.counted("redelivered_records") >= 3, "at least the batch that was rolled back came again, each time"


async def test_what_is_not_the_batchs_fault_is_tried_again_whole(rig: Rig) -> None:
    await fill(rig, 20)
    failures = 0

    async def fail(connection: AsyncConnection, batch: Batch) -> None:
        nonlocal failures
        if failures < 2 and batch.size:
            failures += 1
            await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"))

    async with rig.member(max_records=40) as member:
        member.probe.inside = fail
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert (member.counted("failed_batches"), member.counted("bisected_batches")) == (2, 0)
    assert member.counted("redelivered_records") >= 2


async def test_a_failure_amid_the_halves_of_a_batch_repeats_only_what_was_not_stored(rig: Rig) -> None:
    await rig.produce(0, *values(8), POISON, *values(7))
    failed = False

    async def fail_once(connection: AsyncConnection, batch: Batch) -> None:
        nonlocal failed
        if not failed and batch.slices[0].before[0] > 0:
            failed = True
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with rig.member() as member:
        member.probe.inside = fail_once
        rows = await rig.until_all_seen()
    assert failed
    rig.assert_exactly_once(rows)
    assert [row["topic_offset"] for row in rows if row["poison"]] == [8]


async def test_an_error_of_preparing_loses_nothing(rig: Rig) -> None:
    """The batch that is decoded while another is stored: what was read ahead is read again."""
    await fill(rig, 30)
    raised = 0

    async def fail(batch: Batch) -> None:
        nonlocal raised
        if batch.size and raised < 2:
            raised += 1
            raise TimeoutError

    async with rig.member(max_records=25) as member:
        member.probe.before = fail
        rows = await rig.until_all_seen()
    assert raised == 2
    rig.assert_exactly_once(rows)


async def test_a_turn_without_records_is_given_where_it_is_asked_for(rig: Rig) -> None:
    """A tick that waits for its backlog: the transaction moves no offset, and is fenced all the same."""
    async with rig.member() as member:
        await until(lambda: len(member.consumer.owned) == PARTITIONS)
        member.probe.turns = {2: 0, 99: 0}
        await until(lambda: len(member.probe.batches) >= 2)
        member.probe.turns = {}
    assert {(batch.size, tuple(one.partition for one in batch.slices)) for batch in member.probe.batches} == {(0, (2,))}
    assert (await rig.owners())[2]["apply_seq"] == 0


async def test_a_batch_that_is_held_back_is_not_stored_and_comes_again(rig: Rig) -> None:
    await fill(rig, 20)
    held = 0

    async def hold_back(_connection: AsyncConnection, batch: Batch) -> None:
        nonlocal held
        if held < 2 and batch.size:
            held += 1
            raise HeldBack

    async with rig.member(max_records=40) as member:
        member.probe.inside = hold_back
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert (held, member.counted("failed_batches"), member.counted("fenced_batches")) == (2, 0, 0)


async def test_a_handler_that_takes_nothing_is_given_turns_but_no_record(rig: Rig) -> None:
    probe = Probe(rig.group, limit=0)
    await fill(rig, 20)
    async with rig.member(probe=probe) as member:
        await until(lambda: len(member.consumer.owned) == PARTITIONS)
        probe.turns = {1: 0}
        await until(lambda: len(probe.batches) >= 5)
        assert {batch.size for batch in probe.batches} == {0}
        probe.turns = {}
        probe.limit = 1
        await until(lambda: sum(batch.size for batch in probe.batches) >= 3)
        assert {batch.size for batch in probe.batches} <= {0, 1}
        probe.limit = None
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert member.counted("failed_batches") == 0


async def test_numbers_that_a_handler_wants_are_left_free_before_its_records(rig: Rig) -> None:
    probe = Probe(rig.group, turns={0: 5})
    async with rig.member(probe=probe) as member:
        await until(lambda: len(probe.batches) >= 2)
        probe.turns = {}
        await rig.produce(0, *values(3))
        rows = await rig.until_all_seen()
    reserved = sum(one.reserved for batch in probe.batches for one in batch.slices)
    assert reserved >= 10
    assert [row["apply_seq"] for row in rows] == [reserved + 1, reserved + 2, reserved + 3]
    assert (await rig.owners())[0]["apply_seq"] == reserved + 3
    assert member.counted("failed_batches") == 0
