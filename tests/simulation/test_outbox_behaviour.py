"""What relay, scheduler and recovery lean on in PostgreSQL, asked of the real one and of the simulated one."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store import identity, lease
from telemetry_svc.store.outbox import OutboxMessage, backlog, enqueue, lock_waiting, mark_sent, park, waiting_up_to
from telemetry_svc.store.slots import drop_sent, take_slot
from tests.simulation.conftest import Site
from tests.simulation.test_database_behaviour import Rollback
from tests.simulation.virtual_time import START


def mail(key: str, value: bytes) -> OutboxMessage:
    return OutboxMessage("t", key.encode(), value, (("h", b"\xff"),))


async def values(connection: AsyncConnection, rows: int = 100) -> list[bytes | None]:
    return [row.message.value for row in await lock_waiting(connection, buckets=64, rows=rows)]


async def test_a_row_that_commits_late_is_found_although_later_ones_were_sent(site: Site) -> None:
    async with site.engine.begin() as late:
        await enqueue(late, [mail("a", b"1")])
        async with site.engine.begin() as connection:
            await enqueue(connection, [mail("a", b"2"), mail("a", b"3")])
        async with site.engine.begin() as connection:
            found = await lock_waiting(connection, buckets=64, rows=100)
            assert [row.message for row in found] == [mail("a", b"2"), mail("a", b"3")]
            await mark_sent(connection, [row.id for row in found])
    async with site.engine.begin() as connection:
        [row] = await lock_waiting(connection, buckets=64, rows=100)
        assert row.id < found[0].id, "ids are given out before anybody commits"


async def test_what_one_relay_holds_no_other_sees(site: Site) -> None:
    async with site.engine.begin() as connection:
        await enqueue(connection, [mail("a", b"1"), mail("b", b"2"), mail("a", b"3")])
    async with site.engine.begin() as first:
        assert await values(first) == [b"1", b"2", b"3"]
        async with site.engine.begin() as second:
            assert await values(second) == []
    async with site.engine.begin() as connection:
        assert await values(connection, rows=2) == [b"1", b"2"]


async def test_rows_of_a_topic_that_is_left_out_wait_and_lock_no_bucket(site: Site) -> None:
    other = OutboxMessage("u", b"b", b"2")
    async with site.engine.begin() as connection:
        await enqueue(connection, [mail("a", b"1"), other, mail("a", b"3")])
    async with site.engine.begin() as first:
        found = await lock_waiting(first, buckets=64, rows=1, without=["t", "of no row"])
        assert [row.message for row in found] == [other]
        async with site.engine.begin() as second:
            assert await values(second) == [b"1", b"3"], "its bucket is free"


async def test_what_is_sent_or_parked_waits_no_more(site: Site) -> None:
    async with site.engine.begin() as connection:
        await enqueue(connection, [mail("a", b"1"), mail("a", b"2"), mail("a", b"3")])
    async with site.engine.begin() as connection:
        found = await lock_waiting(connection, buckets=64, rows=100)
        await mark_sent(connection, [found[0].id])
        await park(connection, found[1].id, "too large")
    async with site.engine.begin() as connection:
        assert await values(connection) == [b"3"]
        assert (await backlog(connection), await waiting_up_to(connection, 5)) == (1, 1)


# --- the scheduler ---


@pytest.mark.parametrize("fails", [False, True], ids=["done", "rolled_back"])
async def test_a_slot_is_taken_by_one_and_by_the_next_where_that_one_failed(site: Site, fails: bool) -> None:
    async def second() -> bool:
        async with site.engine.begin() as connection:
            return await take_slot(connection, "tick", START)

    async def first() -> "asyncio.Task[bool]":
        async with site.engine.begin() as connection:
            assert await take_slot(connection, "tick", START)
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            waits.append(waiting)
            if fails:
                raise Rollback
        return waiting

    waits: list[asyncio.Task[bool]] = []
    if fails:
        with pytest.raises(Rollback):
            await first()
    else:
        await first()
    assert await waits[0] is fails


async def test_one_leads_until_he_gives_up_or_his_time_is_over(site: Site) -> None:
    a, b = uuid.UUID(int=1), uuid.UUID(int=2)

    async def taken(holder: uuid.UUID, lease_s: float) -> lease.Lease | None:
        async with site.engine.begin() as connection:
            return await lease.take(connection, "lead", holder, lease_s)

    first = await taken(a, 60)
    assert first is not None
    assert await taken(b, 60) is None
    async with site.engine.begin() as connection:
        await lease.hold(connection, first)
        assert await lease.renew(connection, first, 60)
        await lease.release(connection, first)
    second = await taken(b, 0.01)
    assert second is not None
    assert second.term > first.term
    await asyncio.sleep(0.05)
    with pytest.raises(lease.LeaseLostError):
        async with site.engine.begin() as connection:
            await lease.hold(connection, second)
    third = await taken(a, 60)
    assert third is not None
    assert third.term > second.term


async def test_a_database_knows_whether_it_was_restored(site: Site) -> None:
    async with site.engine.begin() as connection:
        await identity.note_first(connection)
        assert not await identity.was_restored(connection)
        await identity.begin_recovery(connection)
        await identity.note_first(connection)
        assert await identity.was_restored(connection)
        await identity.end_recovery(connection)
        assert not await identity.was_restored(connection)


async def test_what_was_sent_and_done_is_forgotten_and_nothing_else(site: Site) -> None:
    async with site.engine.begin() as connection:
        await enqueue(connection, [mail("a", b"1"), mail("a", b"2")])
        assert await take_slot(connection, "tick", START)
        assert await take_slot(connection, "tick", START + timedelta(minutes=1))
    async with site.engine.begin() as connection:
        [first, _] = await lock_waiting(connection, buckets=64, rows=100)
        await mark_sent(connection, [first.id])
    async with site.engine.begin() as connection:
        assert not await drop_sent(connection, START + timedelta(minutes=1)), "no more is left"
        assert await take_slot(connection, "tick", START), "forgotten"
        assert not await take_slot(connection, "tick", START + timedelta(minutes=1))
        await drop_sent(connection, START + timedelta(days=36_500))
        assert await values(connection) == [b"2"], "what waits is never too old"
