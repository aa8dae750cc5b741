"""Weekly partitions: made once whoever asks, without waiting for a writer, and cut at Monday 00:00 UTC."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store.history import AHEAD, KEPT, WEEK, Weeks, add_pings, make_weeks, weeks_around
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, refusal_of
from tests.store.pings import stored

FIRST = datetime(2050, 1, 3, tzinfo=UTC)
THREE = Weeks(FIRST, FIRST + 3 * WEEK)
"""Weeks that nobody else's test is in."""
NAMES = ["ping_20500103", "ping_20500110", "ping_20500117"]
MS = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
async def no_such_weeks(engine: AsyncEngine) -> AsyncIterator[None]:
    await _drop(engine)
    yield
    await _drop(engine)


async def _drop(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for name in NAMES:
            await connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


async def made(engine: AsyncEngine) -> list[str]:
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        return await make_weeks(connection, THREE)


async def lies_in(connection: AsyncConnection, machine_id: str) -> list[str]:
    query = text("SELECT tableoid::regclass::text FROM ping WHERE machine_id = :m ORDER BY recorded_at")
    return [row[0] for row in await connection.execute(query, {"m": machine_id})]


async def test_weeks_are_made_once(engine: AsyncEngine) -> None:
    assert await made(engine) == NAMES
    assert await made(engine) == []


async def test_one_missing_week_is_filled_in(engine: AsyncEngine) -> None:
    await made(engine)
    async with engine.begin() as connection:
        await connection.execute(text(f"DROP TABLE {NAMES[1]}"))
    assert await made(engine) == [NAMES[1]]


async def test_several_that_make_them_at_once_do_not_fail(engine: AsyncEngine) -> None:
    await asyncio.gather(*(made(engine) for _ in range(4)))
    async with engine.begin() as connection:
        await _put(connection, "WEEKS-1", FIRST, FIRST + WEEK, FIRST + 2 * WEEK)
        assert await lies_in(connection, "WEEKS-1") == NAMES
        await connection.rollback()


async def test_a_writer_with_an_open_transaction_holds_nobody_up(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await make_weeks(connection, Weeks(FIRST, FIRST + WEEK))
    async with engine.connect() as writer:
        transaction = await writer.begin()
        await _put(writer, "WEEKS-2", FIRST)
        assert await made(engine) == NAMES[1:]
        await _put(writer, "WEEKS-2", FIRST + WEEK)
        assert await lies_in(writer, "WEEKS-2") == NAMES[:2]
        await transaction.rollback()


async def test_a_writer_does_not_wait_for_one_who_makes_weeks(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await make_weeks(connection, Weeks(FIRST, FIRST + WEEK))
    async with engine.connect() as maker, engine.connect() as writer:
        making = await maker.begin()
        assert await make_weeks(maker, THREE) == NAMES[1:]
        writing = await writer.begin()
        await writer.execute(text("SET LOCAL lock_timeout = '2s'"))
        await _put(writer, "WEEKS-3", FIRST)
        await writing.rollback()
        await making.rollback()


async def test_a_week_begins_on_monday_at_midnight_utc(engine: AsyncEngine) -> None:
    await made(engine)
    monday = FIRST + WEEK
    async with engine.begin() as connection:
        await _put(connection, "WEEKS-4", FIRST, monday - MS, monday, monday + WEEK - MS, monday + WEEK)
        expected = [NAMES[0], NAMES[0], NAMES[1], NAMES[1], NAMES[2]]
        assert await lies_in(connection, "WEEKS-4") == expected
        await connection.rollback()


@pytest.mark.parametrize("outside", [FIRST - MS, FIRST + 3 * WEEK], ids=["just_before", "just_after"])
async def test_what_has_no_partition_is_told_from_bad_data(engine: AsyncEngine, outside: datetime) -> None:
    await made(engine)
    assert not THREE.hold(outside)

    async def put() -> None:
        async with engine.begin() as connection:
            await _put(connection, "WEEKS-5", outside)

    with pytest.raises(DATABASE_ERRORS) as refused:
        await put()
    assert refusal_of(refused.value) is Refusal.MISSING_PARTITION


async def _put(connection: AsyncConnection, machine_id: str, *recorded_at: datetime) -> None:
    await connection.execute(text("SELECT 1"))
    await add_pings(connection, "ping", [stored(machine_id, moment) for moment in recorded_at])


MOMENTS = st.datetimes(datetime(2002, 1, 1), datetime(2098, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - aware by st


@given(now=MOMENTS)
def test_whole_weeks_cover_400_days_back_and_2_ahead(now: datetime) -> None:
    weeks = weeks_around(now)
    for moment in (now - KEPT, now, now + AHEAD, weeks.first):
        assert weeks.hold(moment)
    for moment in (now - KEPT - WEEK, now + AHEAD + WEEK, weeks.end, weeks.first - MS):
        assert not weeks.hold(moment)
    for edge in (weeks.first, weeks.end):
        assert (edge.isoweekday(), edge.time()) == (1, datetime.min.time())


@given(now=MOMENTS, later=st.timedeltas(timedelta(0), timedelta(days=30)))
def test_weeks_made_later_meet_those_made_before(now: datetime, later: timedelta) -> None:
    before, after = weeks_around(now), weeks_around(now + later)
    assert (after.first - before.first) % WEEK == timedelta(0)
    assert before.first <= after.first <= before.end <= after.end
