"""A database that answers and takes nothing more (faults.md, 18): closed is safe, and it goes on where it was."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from sqlalchemy import text

from telemetry_svc.store.keys import Role
from tests.e2e.house import House, until
from tests.e2e.test_front_door import ping, registered

_END_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND {mine}"
_FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$
"""


@contextlib.asynccontextmanager
async def read_only(house: House) -> AsyncIterator[None]:
    """As of its next session: the service's are ended, so that it meets it at once."""
    async with house.engine.connect() as connection:
        line = await connection.execution_options(isolation_level="AUTOCOMMIT")
        name = await line.scalar(text("SELECT quote_ident(current_database())"))
        end_others = text(_END_OTHERS.format(mine="application_name <> 'tests' AND application_name <> ''"))
        await line.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        await line.execute(end_others)
        try:
            yield
        finally:
            await line.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
            await line.execute(end_others)


@contextlib.asynccontextmanager
async def disk_full(house: House) -> AsyncIterator[None]:
    """Every new row of history and registry fails as it does where no file can grow."""
    async with house.engine.begin() as connection:
        await connection.execute(text(_FULL))
        for table in ("ping", "machine"):
            trigger = f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION full_disk()"
            await connection.execute(text(trigger))
    try:
        yield
    finally:
        async with house.engine.begin() as connection:
            await connection.execute(text("DROP FUNCTION full_disk() CASCADE"))


@pytest.mark.parametrize("refusing", [read_only, disk_full])
async def test_it_fails_closed_and_goes_on_where_it_was(
    house: House, refusing: Callable[[House], AbstractAsyncContextManager[None]]
) -> None:
    """503 for who writes, no offset moved, no dead letter; the device's ping waits in Kafka."""
    machine_id = f"shut-{refusing.__name__}"
    await registered(house, machine_id)
    key = await house.key(Role.DEVICE, machine_id)
    await house.settle()
    offsets = await house.rows(_OFFSETS)
    async with refusing(house):
        failed = await _failed_batches(house)
        answer = await house.ask("POST", "/v1/pings", key=key, json=[ping(machine_id, hour_meter_h=50)])
        assert answer.status_code == 202
        refused = await house.ask("POST", "/v1/machines", json={"machine_id": f"{machine_id}-2", "tonnage_t": 21.5})
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        await until(lambda: _failed_more(house, failed + 2))
        assert await house.rows(_OFFSETS) == offsets
        assert await house.rows("SELECT count(*) FROM ping WHERE machine_id = :m", m=machine_id) == [(0,)]
    await house.settle()
    assert await house.rows("SELECT hour_meter_ch FROM ping WHERE machine_id = :m", m=machine_id) == [(5_000,)]
    assert await house.rows("SELECT stage FROM event WHERE machine_id = :m", m=machine_id) == [("due",)]
    assert await house.rows("SELECT count(*) FROM dead_letter") == [(0,)]


_OFFSETS = "SELECT group_name, partition, next_offset_a, next_offset_b FROM partition_owner ORDER BY 1, 2"


async def _failed_more(house: House, at_least: float) -> bool:
    return await _failed_batches(house) >= at_least


async def _failed_batches(house: House) -> float:
    """Of ingest, as /metrics counts them."""
    told = (await house.ask("GET", "/metrics")).text
    name = 'telemetry_failed_batches_total{group="telemetry-ingest"} '
    return sum(float(line.removeprefix(name)) for line in told.splitlines() if line.startswith(name))
