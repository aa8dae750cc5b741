"""Members come and go: a partition of both topics always has one owner, and nothing is lost or stored twice."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.stream import consumer as consumer_module
from telemetry_svc.stream.batch import Batch
from tests.stream.rig import PARTITIONS, Member, Rig, until

ALL = frozenset(range(PARTITIONS))


def shared(*members: Member) -> bool:
    """Whether these own everything between them, each partition once and everybody some."""
    parts = [member.consumer.owned for member in members]
    return all(parts) and sum(map(len, parts)) == PARTITIONS and frozenset().union(*parts) == ALL


async def both_topics(rig: Rig, tag: str, count: int = 20) -> None:
    for partition in range(PARTITIONS):
        await rig.produce(partition, *(f"{tag}{number}".encode() for number in range(count)))
        await rig.produce(partition, *(f"{tag}{number}".encode() for number in range(3)), second=True)


async def test_members_that_join_and_leave_store_everything_once(rig: Rig) -> None:
    """Records keep coming meanwhile; a partition that comes back is read anew, not from what was cached before."""
    done = asyncio.Event()

    async def keep_producing() -> None:
        number = 0
        while not done.is_set():
            await both_topics(rig, f"{number}-", count=5)
            number += 1
            await asyncio.sleep(0.02)

    async with rig.member() as first:
        producing = asyncio.create_task(keep_producing())
        await until(lambda: first.consumer.owned == ALL)
        async with rig.member() as second:
            await until(lambda: shared(first, second))
            await rig.until_all_seen()
        await until(lambda: first.consumer.owned == ALL)
        done.set()
        await producing
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert min(row["owner_epoch"] for row in (await rig.owners()).values()) >= 3


async def test_the_partitions_of_both_topics_go_to_one_member(rig: Rig) -> None:
    async with rig.member() as first, rig.member() as second:
        await until(lambda: shared(first, second))
        await both_topics(rig, "v")
        rig.assert_exactly_once(await rig.until_all_seen())
        for member, other in ((first, second), (second, first)):
            mine = {one.partition for batch in member.probe.batches for one in batch.slices}
            assert mine == member.consumer.owned
            assert not mine & other.consumer.owned


async def test_what_is_cached_ends_with_the_ownership(rig: Rig) -> None:
    async with rig.member() as first:
        await both_topics(rig, "v")
        await rig.until_all_seen()
        drops = first.probe.drops
        async with rig.member() as second:
            await until(lambda: shared(first, second))
            assert first.probe.drops > drops
            assert not first.probe._counts


async def test_a_commit_that_returns_after_the_partition_was_given_up_fills_no_cache(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch takes longer than a rebalance waits. It is stored, for nobody has taken over; what it knew is old."""
    monkeypatch.setattr(consumer_module, "QUIESCE_S", 0.05)
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def dawdle(_connection: AsyncConnection, batch: Batch) -> None:
        if batch.size and not go_on.is_set():
            inside.set()
            await go_on.wait()

    async with rig.member() as first:
        await until(lambda: first.consumer.owned == ALL)
        first.probe.inside = dawdle
        await both_topics(rig, "slow-")
        await inside.wait()
        drops = first.probe.drops
        async with rig.member() as second:
            await until(lambda: first.probe.drops >= drops + 2)  # revoked, and assigned anew
            go_on.set()
            await until(lambda: shared(first, second))
            await both_topics(rig, "of-two-")
            await rig.until_all_seen()
        await until(lambda: first.consumer.owned == ALL)
        await both_topics(rig, "alone-again-")
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)


async def test_an_owner_that_was_outrun_stores_nothing_and_takes_over_anew(rig: Rig) -> None:
    """Another one took partition 0 over: the next batch of it is fenced, and read again under the next epoch."""
    async with rig.member() as member:
        await rig.produce(0, b"before")
        await rig.until_all_seen()
        async with rig.engine.begin() as connection:
            query = "UPDATE partition_owner SET owner_epoch = owner_epoch + 1 WHERE group_name = :g AND partition = 0"
            await connection.execute(text(query), {"g": rig.group})
        await rig.produce(0, b"after")
        rows = await rig.until_all_seen()
    rig.assert_exactly_once(rows)
    assert [(row["value"], row["epoch"]) for row in rows] == [("before", 1), ("after", 3)]
    assert (member.counted("fenced_batches"), member.counted("failed_batches")) == (1, 0)


async def test_somebody_who_sleeps_on_the_fence_is_ended(rig: Rig) -> None:
    """A zombie holds a partition's row, its process id written down: the takeover ends its session and goes on."""
    await rig.produce(0, b"v")
    async with rig.engine.connect() as zombie:
        await zombie.execute(
            text(
                "INSERT INTO partition_owner (group_name, partition, owner_epoch, owner_pid, owner_backend_start,"
                " next_offset_a, next_offset_b) SELECT :g, 0, 7, pid, backend_start, 0, 0"
                " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ),
            {"g": rig.group},
        )
        for name in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            await zombie.execute(text(f"SET {name} = 0"))
        await zombie.commit()
        await zombie.execute(text("SELECT FROM partition_owner WHERE group_name = :g FOR UPDATE"), {"g": rig.group})
        async with rig.member():
            rows = await rig.until_all_seen()
        await zombie.invalidate()
    assert [(row["value"], row["epoch"]) for row in rows] == [("v", 8)]
