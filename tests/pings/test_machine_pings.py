"""`GET /v1/machines/{id}/pings`: pages that skip nothing, buckets in the machine's own days, no unbounded answer."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.codec.ping import dedupe_number
from telemetry_svc.store.cursor import START, Cursor
from telemetry_svc.store.history import StoredPing, add_pings, make_weeks, weeks_around
from telemetry_svc.store.ping_pages import Span, buckets_query, page_query
from telemetry_svc.telemetry import Fault, Lamp, MachineId, Ping, Position, Sensors
from tests.api.house import MACHINE, House, machine, plan_of
from tests.rules.machines import ch

PATH = f"/v1/machines/{MACHINE}/pings"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def history(house: House, clean_database: None) -> House:
    """A registered machine in Shanghai without a ping."""
    async with house.engine.begin() as connection:
        await make_weeks(connection, weeks_around(NOON))
    await house.register(machine())
    return house


def at(moment: datetime, hours_h: float | None = None, **fields: Any) -> Ping:
    return Ping(MachineId(MACHINE), moment, None if hours_h is None else ch(hours_h), **fields)


async def store(house: House, *pings: Ping, first_seq: int = 1, table: str = "ping") -> None:
    rows = [
        StoredPing(ping, dedupe_number(ping), ping.recorded_at + timedelta(seconds=2), False, 0, seq, seq)
        for seq, ping in enumerate(pings, first_seq)
    ]
    async with house.engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await add_pings(connection, table, rows)


async def asked(house: House, path: str = PATH, **params: Any) -> dict[str, Any]:
    answer = await house.get(path, **params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def around(moment: datetime) -> dict[str, str]:
    return {"from": (moment - HOUR).isoformat(), "to": (moment + HOUR).isoformat()}


async def test_a_ping_as_it_was_sent(history: House) -> None:
    full = at(
        NOON,
        249.9,
        position=Position(28.228, 112.939, 61.0, 0.0, 270),
        faults=(Fault(110, 0, 3, 0, Lamp.RED_STOP),),
        sensors=Sensors(88.5, None, 41, None),
        engine_running=True,
        device_id="868120241234567",
        sequence=81234,
    )
    await store(history, full, at(NOON + HOUR / 2, faults=()))
    first, second = (await asked(history, **around(NOON)))["items"]
    assert first == {
        "recorded_at": "2026-11-20T12:00:00Z",
        "received_at": "2026-11-20T12:00:02Z",
        "future": False,
        "hour_meter_h": 249.9,
        "position": {
            "latitude_deg": 28.228,
            "longitude_deg": 112.939,
            "altitude_m": 61.0,
            "speed_kmh": 0.0,
            "heading_deg": 270.0,
        },
        "faults": [{"spn": 110, "fmi": 0, "occurrence_count": 3, "source_address": 0, "lamp": "red_stop"}],
        "sensors": {
            "coolant_temperature_c": 88.5,
            "oil_pressure_kpa": None,
            "fuel_level_pct": 41.0,
            "battery_v": None,
        },
        "engine_running": True,
        "device_id": "868120241234567",
        "sequence": 81234,
    }
    empty = ("hour_meter_h", "position", "sensors", "engine_running", "device_id", "sequence")
    assert (second["faults"], [second[name] for name in empty]) == ([], [None] * 6)


async def test_from_is_inclusive_and_to_is_not(history: House) -> None:
    await store(history, at(NOON, 1), at(NOON + HOUR, 2))
    await store(history, at(NOON - 2 * HOUR, 0.5), first_seq=3, table="ping_outlier")
    given = {"from": NOON.isoformat(), "to": (NOON + HOUR).isoformat()}
    assert await hours(history, **given) == [1]
    assert await hours(history, **{**given, "from": "2026-11-20T20:00:00.001+08:00"}) == []
    assert await hours(history, **{**given, "from": "2026-11-20T10:00:00Z"}) == [1, 0.5]


async def hours(house: House, **params: str) -> list[float]:
    return [item["hour_meter_h"] for item in (await asked(house, **params))["items"]]


async def test_without_a_span_it_is_the_last_day(history: House) -> None:
    now = history.clock.now()
    moments = [now - timedelta(days=1, milliseconds=1), now - timedelta(days=1), now - HOUR, now]
    async with history.engine.begin() as connection:
        await make_weeks(connection, weeks_around(now))
    await store(history, *(at(moment, number) for number, moment in enumerate(moments)))
    assert await hours(history) == [1, 2]


async def test_a_late_ping_comes_behind_the_cursor(history: House) -> None:
    await store(history, *(at(NOON + number * timedelta(minutes=1), number) for number in range(5)))
    first = await asked(history, **around(NOON), limit=4)
    assert [item["hour_meter_h"] for item in first["items"]] == [0, 1, 2, 3]
    await store(history, at(NOON - timedelta(minutes=30), 0.01), first_seq=6)
    second = await asked(history, **around(NOON), limit=4, cursor=first["next_cursor"])
    assert [item["hour_meter_h"] for item in second["items"]] == [4, 0.01]
    assert second["next_cursor"] is None


async def test_pings_taken_up_together_are_told_apart_by_a_cursor(history: House) -> None:
    """They share the place of their machine's registration."""
    pings = [at(NOON + number * timedelta(minutes=1), number) for number in range(3)]
    rows = [StoredPing(one, dedupe_number(one), NOON, False, 0, 7 + n, 1) for n, one in enumerate(pings)]
    async with history.engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await add_pings(connection, "ping", rows)
    assert [item async for item in _all(history, limit=1, **around(NOON))] == [0, 1, 2]


async def _all(house: House, **params: Any) -> Any:
    cursor: dict[str, str] = {}
    while True:
        page = await asked(house, **params, **cursor)
        for item in page["items"]:
            yield item["hour_meter_h"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


async def test_hours_in_buckets(history: House) -> None:
    minutes = ((0, 10.0), (20, 10.33), (40, None), (59, 10.98), (60, 11.0), (200, 12.0), (190, 13.0))
    await store(history, *(at(NOON + timedelta(minutes=minute), shown) for minute, shown in minutes))
    given = {"from": NOON.isoformat(), "to": (NOON + 6 * HOUR).isoformat(), "bucket": "1h"}
    page = await asked(history, **given)
    assert page == {
        "items": [
            bucket("2026-11-20T12:00:00Z", 4, 10.0, 10.98, 10.98),
            bucket("2026-11-20T13:00:00Z", 1, 11.0, 11.0, 11.0),
            bucket("2026-11-20T15:00:00Z", 2, 12.0, 13.0, 12.0),
        ],
        "next_cursor": None,
    }
    first = await asked(history, **given, limit=2)
    assert (len(first["items"]), first["next_cursor"] is not None) == (2, True)
    assert (await asked(history, **given, limit=2, cursor=first["next_cursor"]))["items"] == page["items"][2:]


def bucket(begin: str, pings: int, low: float | None, high: float | None, last: float | None) -> dict[str, Any]:
    return {
        "begin": begin,
        "pings": pings,
        "min_hour_meter_h": low,
        "max_hour_meter_h": high,
        "last_hour_meter_h": last,
    }


async def test_a_day_is_one_of_the_machines_zone(history: House) -> None:
    """16:00 UTC is midnight in Shanghai."""
    await store(history, at(NOON + 4 * HOUR - timedelta(milliseconds=1), 1), at(NOON + 4 * HOUR))
    given = {"from": NOON.isoformat(), "to": (NOON + 6 * HOUR).isoformat(), "bucket": "1d"}
    assert (await asked(history, **given))["items"] == [
        bucket("2026-11-19T16:00:00Z", 1, 1.0, 1.0, 1.0),
        bucket("2026-11-20T16:00:00Z", 1, None, None, None),
    ]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        pytest.param({"from": "2026-11-20T12:00:00Z", "to": "2026-11-20T12:00:00Z"}, "from", id="empty"),
        pytest.param({"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:01Z"}, "from", id="over 31 days"),
        pytest.param(
            {"from": "2025-10-01T00:00:00Z", "to": "2026-11-05T00:00:01Z", "bucket": "1d"}, "from", id="over 400 days"
        ),
        pytest.param({"from": "2026-11-20T12:00:00"}, "from", id="no offset"),
        pytest.param({"bucket": "2h"}, "bucket", id="no such bucket"),
        pytest.param({"limit": "1001"}, "limit", id="more than a page"),
        pytest.param({"cursor": "?"}, "cursor", id="no cursor"),
        pytest.param({"cursor": Cursor(2**62, 0).text, "bucket": "1h"}, "cursor", id="another list's cursor"),
    ],
)
async def test_what_does_not_fit(history: House, params: Mapping[str, str], field: str) -> None:
    answer = await history.get(PATH, **params)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_a_machine_that_nobody_registered(history: House) -> None:
    assert (await history.get("/v1/machines/GHOST-1/pings")).status_code == 404


@pytest.mark.parametrize("query", ["page", "hours", "days"])
async def test_no_query_reads_another_machines_pings(history: House, engine: AsyncEngine, query: str) -> None:
    span = Span(MachineId(MACHINE), NOON, NOON + HOUR)
    plans = {
        "page": page_query(span, START, 100),
        "hours": buckets_query(span, HOUR, NOON, 100),
        "days": buckets_query(span, "Asia/Shanghai", None, 100),
    }
    lines: Sequence[str] = (await plan_of(engine, plans[query])).splitlines()
    scans = [line for line in lines if "Scan" in line]
    assert scans
    assert not [line for line in scans if "Seq Scan" in line]
    assert any("machine_id = " in line and "recorded_at >= " in line for line in lines)
