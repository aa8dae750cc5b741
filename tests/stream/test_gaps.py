"""Records that retention deleted before they were read: a gap is written down, and reading goes on behind it."""

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.stream.rig import PARTITIONS, Rig, until


async def delete_before(admin: AIOKafkaAdminClient, topic: str, partition: int, offset: int) -> None:
    await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})


async def test_a_gap_that_opened_while_nobody_read(rig: Rig, admin: AIOKafkaAdminClient) -> None:
    for partition in (0, 1):
        await rig.produce(partition, *(b"v%d" % number for number in range(10)))
    await rig.produce(0, b"command", second=True)
    async with rig.member():
        await rig.until_all_seen()
    for partition in (0, 1):
        await rig.produce(partition, *(b"w%d" % number for number in range(10)))
    first, _ = rig.topics
    await delete_before(admin, first, 0, 15)
    rig.sent = [record for record in rig.sent if record[:2] != (first, 0) or not 10 <= record[2] < 15]
    async with rig.member() as member:
        rows = await rig.until_all_seen()
        assert member.counted("offset_gaps") == 1
    rig.assert_exactly_once(rows)
    assert await rig.gaps() == [(first, 0, 10, 15)]
    assert {number: row["next_offset_a"] for number, row in (await rig.owners()).items()} == {0: 20, 1: 20, 2: 0, 3: 0}


async def test_a_gap_that_opens_under_the_reader(rig: Rig, admin: AIOKafkaAdminClient) -> None:
    """The broker answers that the offset is gone: the partitions are taken over again, behind the gap."""
    first, second = rig.topics
    await rig.produce(0, *(b"v%d" % number for number in range(10)))
    async with rig.member() as member:
        await rig.until_all_seen()
        async with rig.engine.begin() as connection:
            query = "UPDATE partition_owner SET next_offset_a = 2 WHERE group_name = :g AND partition = 0"
            await connection.execute(text(query), {"g": rig.group})
        await delete_before(admin, first, 0, 10)
        member.consumer._consumer.seek(TopicPartition(first, 0), 2)
        await until(lambda: member.counted("offset_gaps") == 1)
        await until(lambda: len(member.consumer.owned) == PARTITIONS)
        await rig.produce(0, b"new")
        await rig.produce(0, b"command", second=True)
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert await rig.gaps() == [(first, 0, 2, 10)]
    assert (await rig.owners())[0]["next_offset_b"] == 1
    assert second not in {gap[0] for gap in await rig.gaps()}


async def test_a_topic_that_was_never_read_begins_where_retention_left_it(rig: Rig, admin: AIOKafkaAdminClient) -> None:
    """Not a gap: nothing was promised before the first takeover."""
    first, _ = rig.topics
    await rig.produce(0, *(b"v%d" % number for number in range(10)))
    await delete_before(admin, first, 0, 4)
    rig.sent = [record for record in rig.sent if record[2] >= 4]
    async with rig.member():
        rows = await rig.until_all_seen()
    assert [row["topic_offset"] for row in rows] == [4, 5, 6, 7, 8, 9]
    assert await rig.gaps() == []


async def test_an_offset_beyond_the_end_is_told_once_and_nothing_is_read(rig: Rig) -> None:
    """Another broker, or one restored from an older copy: its offsets mean something else."""
    await rig.produce(0, b"v")
    await rig.produce(1, b"v")
    async with rig.member():
        await rig.until_all_seen()
    async with rig.engine.begin() as connection:
        query = "UPDATE partition_owner SET next_offset_a = 1000 WHERE group_name = :g AND partition = 0"
        await connection.execute(text(query), {"g": rig.group})
    with capture_logs() as logged:
        async with rig.member() as member:
            await until(lambda: member.counted("failed_batches") >= 3)
            assert member.consumer.trouble == (
                f"OffsetsAheadError: {rig.topics[0]} partition 0 ends at offset 1, but the database has read up to "
                "1000: this is another broker than before, or it has lost records; `telemetry-svc recover` says what "
                "to do"
            )
            assert member.consumer.owned == frozenset()
            assert member.counted("takeovers") == 0
    warnings = [one for one in logged if one["log_level"] == "warning"]
    assert [(one["event"], one["reason"]) for one in warnings] == [
        ("batch rolled back, reading it again", member.consumer.trouble)
    ]
    assert await rig.gaps() == []
    assert len(await rig.seen()) == 2
