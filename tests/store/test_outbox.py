"""Outbox rows: what a key's bucket is, what comes back of a message, and how much of it at once."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store.outbox import (
    BUCKETS,
    OutboxMessage,
    Waiting,
    backlog,
    bucket_of,
    enqueue,
    lock_waiting,
    mark_sent,
    park,
)

pytestmark = pytest.mark.usefixtures("clean_database")


def letter(number: int, size: int = 1) -> OutboxMessage:
    return OutboxMessage("t", b"M-1", b"%06d" % number + b"x" * size)


async def waiting(connection: AsyncConnection, **limits: Any) -> list[Waiting]:
    return await lock_waiting(connection, buckets=BUCKETS, **({"rows": 1000} | limits))


async def test_messages_come_back_in_order_as_they_were(engine: AsyncEngine) -> None:
    messages = [
        OutboxMessage("t", b"M-1", b"\x00\xff", (("a", b"\x00"), ("a", b"")), None),
        OutboxMessage("t", None, None, (), 7),
        OutboxMessage("u", b"", b""),
    ]
    async with engine.begin() as connection:
        await enqueue(connection, messages)
        await enqueue(connection, [])
        rows = await waiting(connection)
        assert [row.message for row in rows] == messages
        assert [row.id for row in rows] == sorted(row.id for row in rows)


@pytest.mark.parametrize(
    ("name", "kept"), [("a\0b", "a\ufffdb"), ("\ud800", "?"), ("größe", "größe")], ids=["nul", "half_a_pair", "umlaut"]
)
async def test_a_header_name_that_cannot_be_stored_does_not_stop_its_record(
    engine: AsyncEngine, name: str, kept: str
) -> None:
    async with engine.begin() as connection:
        await enqueue(connection, [OutboxMessage("t", b"k", b"v", ((name, b"1"),))])
        assert [row.message.headers for row in await waiting(connection)] == [((kept, b"1"),)]


async def test_what_is_sent_or_parked_waits_no_more(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await enqueue(connection, [letter(number) for number in range(4)])
        first, second, *rest = await waiting(connection)
        await mark_sent(connection, [first.id])
        await park(connection, second.id, "too large")
        assert await waiting(connection) == rest
        assert await backlog(connection) == 2


async def test_a_bucket_is_locked_until_its_transaction_ends(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await enqueue(connection, [letter(1), OutboxMessage("t", b"M-2", b"other")])
    async with engine.begin() as one, engine.begin() as other:
        assert len(await lock_waiting(one, buckets=1, rows=10)) == 1
        assert len(await waiting(other)) == 1
        await one.rollback()
        await other.rollback()
    async with engine.begin() as third:
        assert len(await waiting(third)) == 2


async def test_a_pass_takes_no_more_rows_than_it_may(engine: AsyncEngine) -> None:
    """The oldest ones of all buckets, also where the table or the index has them in another order."""
    messages = [OutboxMessage("t", key, b"v") for key in (b"M-1", b"M-2", b"M-3") * 3]
    async with engine.begin() as connection:
        await enqueue(connection, messages)
        await connection.execute(text("UPDATE outbox SET topic = topic WHERE id % 2 = 0"))
        assert [row.message for row in await waiting(connection, rows=4)] == messages[:4]


@pytest.mark.parametrize(("max_bytes", "rows"), [(1, 1), (2_000, 2), (3_500, 4), (10**9, 10)])
async def test_a_pass_takes_no_more_bytes_than_it_may(engine: AsyncEngine, max_bytes: int, rows: int) -> None:
    """2 000 dead letters of 1 MiB are not to be had in memory at once; the first goes out however large it is."""
    async with engine.begin() as connection:
        await enqueue(connection, [letter(number, size=1_000) for number in range(10)])
        found = await waiting(connection, max_bytes=max_bytes)
        assert [row.message for row in found] == [letter(number, size=1_000) for number in range(rows)]


async def test_bytes_of_headers_count(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        headers = tuple((f"h{number}", random.Random(number).randbytes(50)) for number in range(40))
        await enqueue(connection, [OutboxMessage("t", b"k", None, headers)] * 3)
        assert len(await waiting(connection, max_bytes=500)) == 1


@given(key=st.one_of(st.none(), st.binary()), partition=st.integers(0, 11))
def test_a_key_has_one_bucket_and_records_without_one_go_by_their_partition(key: bytes | None, partition: int) -> None:
    bucket = bucket_of(OutboxMessage("t", key, b"v", (), partition))
    assert 0 <= bucket < BUCKETS
    assert bucket == bucket_of(OutboxMessage("u", key, None, (("h", b""),), partition))


def test_keys_are_spread_over_the_buckets() -> None:
    used = {bucket_of(OutboxMessage("t", f"ZE215-{number:06d}".encode(), b"v")) for number in range(1_000)}
    assert len(used) == BUCKETS


async def test_there_is_a_row_to_lock_for_every_bucket(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT bucket FROM outbox_bucket ORDER BY bucket"))
        assert [row[0] for row in rows] == list(range(BUCKETS))
