"""A client that goes away in the midst of a transaction leaves no connection behind (faults.md, 17)."""

import asyncio
import contextlib
import random

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.engine import create_engine, dispose

CANCELLED = 1_000
AT_ONCE = 10


async def test_a_thousand_that_are_cancelled_leave_no_connection_behind(database_url: str, engine: AsyncEngine) -> None:
    own = create_engine(database_url, application_name="tests-cancelled", pool_size=AT_ONCE)
    rng = random.Random(17)

    async def transaction() -> None:
        async with own.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(0.002)"))
            await connection.execute(text("SELECT pg_sleep(0.002)"))

    async def client() -> int:
        cut_off = 0
        for _ in range(CANCELLED // AT_ONCE):
            task = asyncio.create_task(transaction())
            await asyncio.sleep(rng.uniform(0, 0.01))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            cut_off += task.cancelled()
        return cut_off

    cut_off = sum(await asyncio.gather(*(client() for _ in range(AT_ONCE))))
    assert cut_off > CANCELLED // 4, "too few were cut off to show anything"
    assert own.pool.status().endswith("Current Checked out connections: 0")
    async with own.begin() as connection:
        assert await connection.scalar(text("SELECT 2")) == 2
    async with engine.connect() as connection:
        left = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tests-cancelled' AND state LIKE '%in tr%'"
        )
        assert await connection.scalar(text(left)) == 0
    await dispose(own)
