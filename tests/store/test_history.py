"""History on the real database: COPY inside the fence's transaction, both tables, and every field as it was."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store.history import add_pings, known_pings, make_weeks, weeks_around
from telemetry_svc.store.ownership import FencedError, Move, advance, take_over
from telemetry_svc.telemetry import Fault, Lamp, Position, Sensors
from tests.store.pings import RECEIVED_AT, some, stored


@pytest.fixture
async def machine_id(engine: AsyncEngine) -> str:
    """A machine that no other test has, and partitions for its pings."""
    async with engine.begin() as connection:
        await make_weeks(connection, weeks_around(RECEIVED_AT))
    return f"COPY-{uuid.uuid4().hex[:8]}"


async def count(engine: AsyncEngine, table: str, machine_id: str) -> int:
    async with engine.connect() as connection:
        query = text(f"SELECT count(*) FROM {table} WHERE machine_id = :m")
        return int((await connection.execute(query, {"m": machine_id})).scalar_one())


async def test_copy_after_the_fence_is_taken_back_with_it(engine: AsyncEngine, machine_id: str) -> None:
    async with engine.begin() as connection:
        [owned] = await take_over(connection, machine_id, {0: (0, 0)})
    async with engine.connect() as connection:
        transaction = await connection.begin()
        await advance(connection, machine_id, [Move(0, owned.epoch, (0, 0), (3, 0), 3)])
        await add_pings(connection, "ping", some(machine_id, 3))
        await add_pings(connection, "ping_outlier", some(machine_id, 2))
        assert await _counted(connection, machine_id) == 3
        await transaction.rollback()
    assert await count(engine, "ping", machine_id) == 0
    assert await count(engine, "ping_outlier", machine_id) == 0


async def test_copy_as_the_first_statement_commits_by_itself(engine: AsyncEngine, machine_id: str) -> None:
    """Why the fence comes first (decision 11). When this fails, the driver has changed and the rule may go."""
    async with engine.connect() as connection:
        transaction = await connection.begin()
        await add_pings(connection, "ping", some(machine_id, 3))
        await transaction.rollback()
    assert await count(engine, "ping", machine_id) == 3


async def test_a_fenced_batch_never_comes_to_its_copy(engine: AsyncEngine, machine_id: str) -> None:
    async with engine.begin() as connection:
        await take_over(connection, machine_id, {0: (0, 0)})

    async def batch() -> None:
        async with engine.begin() as connection:
            await advance(connection, machine_id, [Move(0, 0, (0, 0), (3, 0), 3)])
            await add_pings(connection, "ping", some(machine_id, 3))

    with pytest.raises(FencedError):
        await batch()
    assert await count(engine, "ping", machine_id) == 0


async def _counted(connection: AsyncConnection, machine_id: str) -> int:
    query = text("SELECT count(*) FROM ping WHERE machine_id = :m")
    return int((await connection.execute(query, {"m": machine_id})).scalar_one())


FULL: dict[str, Any] = {
    "position": Position(28.228, 112.939, 61.0, 0.5, 270.0),
    "faults": (Fault(110, 0, 3, 0, Lamp.RED_STOP),),
    "sensors": Sensors(88.5, 310.0, 41.0, 27.6),
    "engine_running": True,
    "device_id": "868120241234567",
    "sequence": 81_234,
}
COLUMNS = (
    "hour_meter_ch, latitude_deg, longitude_deg, altitude_m, speed_kmh, heading_deg, coolant_temperature_c,"
    " oil_pressure_kpa, fuel_level_pct, battery_v, faults, engine_running, device_id, sequence, dedupe, received_at,"
    " future, partition, topic_offset, apply_seq"
)


async def test_every_field_is_kept_as_it_was(engine: AsyncEngine, machine_id: str) -> None:
    fault = {"spn": 110, "fmi": 0, "occurrence_count": 3, "source_address": 0, "lamp": "red_stop"}
    whole = (
        24_999,
        28.228,
        112.939,
        61.0,
        0.5,
        270.0,
        88.5,
        310.0,
        41.0,
        27.6,
        [fault],
        True,
        "868120241234567",
        81_234,
    )
    assert await _row_of(engine, machine_id, FULL) == (*whole, 5, RECEIVED_AT, False, 0, 5, 5)


async def test_what_was_not_reported_is_null_and_no_active_fault_is_an_empty_list(
    engine: AsyncEngine, machine_id: str
) -> None:
    row = await _row_of(engine, machine_id, {"hour_meter_ch": None, "faults": ()})
    assert row[:14] == (None,) * 10 + ([], None, None, None)


async def _row_of(engine: AsyncEngine, machine_id: str, fields: dict[str, Any]) -> tuple[Any, ...]:
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await add_pings(connection, "ping", [stored(machine_id, dedupe=5, **fields)])
        rows = await connection.execute(text(f"SELECT {COLUMNS} FROM ping WHERE machine_id = :m"), {"m": machine_id})
        return tuple(rows.one())


async def test_a_repeat_is_looked_for_in_both_tables(engine: AsyncEngine, machine_id: str) -> None:
    astray = datetime(2011, 1, 1, tzinfo=UTC)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await add_pings(connection, "ping", [stored(machine_id)])
        await add_pings(connection, "ping_outlier", [stored(machine_id, astray)])
        known = {(machine_id, RECEIVED_AT, 1), (machine_id, astray, 1)}
        others = {
            (f"{machine_id}-other", RECEIVED_AT, 1),
            (machine_id, RECEIVED_AT + timedelta(milliseconds=1), 1),
            (machine_id, RECEIVED_AT, -1),
        }
        assert await known_pings(connection, [*known, *others]) == known
        assert await known_pings(connection, []) == set()
