"""Every kind of error a statement of ours can meet, raised by the real server or driver, gets its right name."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, refusal_of

Fault = Callable[[AsyncConnection], Awaitable[object]]


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """In a transaction, with a table to offend."""
    async with engine.connect() as connection:
        await connection.execute(
            text(
                "CREATE TEMP TABLE victim (word text, n int CHECK (n < 10), must int NOT NULL DEFAULT 0, UNIQUE (word))"
            )
        )
        await connection.execute(text("INSERT INTO victim VALUES ('taken', 1)"))
        yield connection
        await connection.invalidate()


def by_sql(word: Any = "free", n: Any = 1, must: Any = 0) -> Fault:
    async def fault(connection: AsyncConnection) -> object:
        sql = text("INSERT INTO victim VALUES (CAST(:word AS text), CAST(:n AS int), CAST(:must AS int))")
        return await connection.execute(sql, {"word": word, "n": n, "must": must})

    return fault


def by_array(word: Any = "free", n: Any = 1) -> Fault:
    async def fault(connection: AsyncConnection) -> object:
        sql = text("INSERT INTO victim SELECT * FROM unnest(CAST(:words AS text[]), CAST(:ns AS int[]))")
        return await connection.execute(sql, {"words": ["good", word], "ns": [1, n]})

    return fault


def by_copy(word: Any = "free", n: Any = 1, must: Any = 0) -> Fault:
    async def fault(connection: AsyncConnection) -> object:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        return await raw.copy_records_to_table("victim", records=[("good", 1, 0), (word, n, must)])

    return fault


def outside_all_weeks(copy: bool) -> Fault:
    async def fault(connection: AsyncConnection) -> object:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS pg_temp.parted (n int) PARTITION BY RANGE (n)"))
        if not copy:
            return await connection.execute(text("INSERT INTO parted VALUES (1)"))
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        return await raw.copy_records_to_table("parted", records=[(1,)])

    return fault


def told(sqlstate: str) -> Fault:
    """PostgreSQL's own error of that class."""

    async def fault(connection: AsyncConnection) -> object:
        return await connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"))

    return fault


def killed(by: Fault) -> Fault:
    async def fault(connection: AsyncConnection) -> object:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        async with connection.engine.connect() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        return await by(connection)

    return fault


async def ends_itself(connection: AsyncConnection) -> object:
    return await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)"))


async def one_row_twice(connection: AsyncConnection) -> object:
    """21000, as a batch raises it that holds two rows for one key."""
    upsert = "INSERT INTO victim VALUES ('a', 1), ('a', 2) ON CONFLICT (word) DO UPDATE SET n = excluded.n"
    return await connection.execute(text(upsert))


CASES = {
    "nul_by_sql": (by_sql(word="a\0b"), Refusal.DATA),
    "nul_in_an_array": (by_array(word="a\0b"), Refusal.DATA),
    "nul_by_copy": (by_copy(word="a\0b"), Refusal.DATA),
    "half_a_surrogate_pair_by_sql": (by_sql(word="\ud800"), Refusal.DATA),
    "half_a_surrogate_pair_in_an_array": (by_array(word="\ud800"), Refusal.DATA),
    "half_a_surrogate_pair_by_copy": (by_copy(word="\ud800"), Refusal.DATA),
    "too_large_a_number_by_sql": (by_sql(n=2**31), Refusal.DATA),
    "too_large_a_number_in_an_array": (by_array(n=2**31), Refusal.DATA),
    "too_large_a_number_by_copy": (by_copy(n=2**31), Refusal.DATA),
    "far_too_large_a_number_by_copy": (by_copy(n=2**80), Refusal.DATA),
    "wrong_type_by_sql": (by_sql(n="one"), Refusal.DATA),
    "repeat_by_sql": (by_sql(word="taken"), Refusal.DATA),
    "repeat_by_copy": (by_copy(word="taken"), Refusal.DATA),
    "null_by_sql": (by_sql(must=None), Refusal.DATA),
    "null_by_copy": (by_copy(must=None), Refusal.DATA),
    "check_by_sql": (by_sql(n=10), Refusal.DATA),
    "check_by_copy": (by_copy(n=10), Refusal.DATA),
    "one_row_twice": (one_row_twice, Refusal.DATA),
    "a_statement_of_ours_is_wrong": (told("42804"), Refusal.DATA),
    "too_complex": (told("54001"), Refusal.DATA),
    "not_supported": (told("0A000"), Refusal.DATA),
    "no_such_table_yet": (told("42P01"), Refusal.UNAVAILABLE),
    "no_such_column_yet": (told("42703"), Refusal.UNAVAILABLE),
    "no_such_function_yet": (told("42883"), Refusal.UNAVAILABLE),
    "no_right_yet": (told("42501"), Refusal.UNAVAILABLE),
    "missing_partition_by_sql": (outside_all_weeks(copy=False), Refusal.MISSING_PARTITION),
    "missing_partition_by_copy": (outside_all_weeks(copy=True), Refusal.MISSING_PARTITION),
    "lock_timeout": (told("55P03"), Refusal.LOCKED),
    "serialization_failure": (told("40001"), Refusal.UNAVAILABLE),
    "deadlock": (told("40P01"), Refusal.UNAVAILABLE),
    "disk_full": (told("53100"), Refusal.UNAVAILABLE),
    "read_only": (told("25006"), Refusal.UNAVAILABLE),
    "transaction_timeout": (told("25P04"), Refusal.UNAVAILABLE),
    "killed_in_a_statement": (ends_itself, Refusal.UNAVAILABLE),
    "killed_before_sql": (killed(by_sql()), Refusal.UNAVAILABLE),
    "killed_before_copy": (killed(by_copy()), Refusal.UNAVAILABLE),
}


@pytest.mark.parametrize(("fault", "meaning"), CASES.values(), ids=CASES)
async def test_an_error_has_one_meaning(connection: AsyncConnection, fault: Fault, meaning: Refusal) -> None:
    with pytest.raises(DATABASE_ERRORS) as raised:
        await fault(connection)
    assert refusal_of(raised.value) is meaning


async def test_a_lock_that_is_not_to_be_had_is_locked(engine: AsyncEngine) -> None:
    name = f"lock-{uuid.uuid4().hex[:8]}"
    take = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
    async with engine.begin() as holder, engine.connect() as waiter:
        await holder.execute(take, {"name": name})
        await waiter.execute(text("SET LOCAL lock_timeout = 50"))
        with pytest.raises(DATABASE_ERRORS) as raised:
            await waiter.execute(take, {"name": name})
        assert refusal_of(raised.value) is Refusal.LOCKED


async def test_a_server_that_is_not_there_is_unavailable(unused_port: int) -> None:
    engine = create_engine(f"postgresql://nobody:nothing@127.0.0.1:{unused_port}/none", application_name="tests")
    with pytest.raises(DATABASE_ERRORS) as raised:
        await engine.connect()
    assert refusal_of(raised.value) is Refusal.UNAVAILABLE
    await engine.dispose()


async def test_no_free_connection_is_unavailable(engine: AsyncEngine) -> None:
    """A pool that others have emptied must not end a consumer."""
    small = create_async_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    async with small.connect():
        with pytest.raises(DATABASE_ERRORS) as raised:
            await small.connect()
    assert refusal_of(raised.value) is Refusal.UNAVAILABLE
    await small.dispose()
