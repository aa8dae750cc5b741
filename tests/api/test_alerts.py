"""Alerts: filtered, page by page, and as a stream that leaves no gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api import StreamSettings
from telemetry_svc.api.alerts import AlertStreams
from telemetry_svc.embedded.ports import free_port
from telemetry_svc.rules import Policy
from telemetry_svc.store.alerts import AlertFilter, page_query
from telemetry_svc.store.cursor import START, Cursor
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.keys import Role
from telemetry_svc.telemetry import EditionId
from telemetry_svc.web.problems import Problem
from tests.api.house import House, insert_alert, plan_of
from tests.web.doubles import NOON, bearer

ANOMALY = "excavator.anomaly.v1"
QUICK = StreamSettings(clients=2, poll_s=0.01, heartbeat_s=0.05)


async def _some(house: House) -> dict[str, str]:
    return {
        "due": await house.raised("A", 1, kind="inspection", stage="due", milestone_h=250),
        "overdue": await house.raised("B", 2, kind="inspection", stage="overdue", milestone_h=50),
        "opened": await house.raised("A", 3, type_=ANOMALY, kind="fault", phase="opened", severity="critical"),
        "cleared": await house.raised("A", 4, type_=ANOMALY, kind="fault", phase="cleared", severity="critical"),
        "warning": await house.raised("B", 5, type_=ANOMALY, kind="silence", phase="opened", severity="warning"),
    }


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({}, "due overdue opened cleared warning", id="all"),
        pytest.param({"machine_id": "A"}, "due opened cleared", id="one machine"),
        pytest.param({"machine_id": "C"}, "", id="another machine"),
        pytest.param({"type": ANOMALY}, "opened cleared warning", id="one type"),
        pytest.param({"stage": "overdue"}, "overdue", id="one stage"),
        pytest.param({"phase": "opened"}, "opened warning", id="one phase"),
        pytest.param({"severity": "critical"}, "opened cleared", id="one severity"),
        pytest.param({"machine_id": "A", "phase": "opened", "severity": "critical"}, "opened", id="all of them"),
        pytest.param({"machine_id": "B", "stage": "due"}, "", id="nothing fits both"),
    ],
)
async def test_filters(house: House, params: dict[str, str], expected: str) -> None:
    ids = await _some(house)
    answer = await house.get("/v1/alerts", **params)
    assert [item["id"] for item in answer.json()["items"]] == [ids[name] for name in expected.split()]


async def test_an_alert_is_the_cloud_event_that_went_out(house: House) -> None:
    alert_id = await house.raised("A", 1, kind="inspection", stage="due", milestone_h=250, free_of_charge=True)
    [item] = (await house.get("/v1/alerts")).json()["items"]
    assert item == {
        "id": alert_id,
        "source": "telemetry-svc/rules",
        "type": "excavator.maintenance_due.v1",
        "subject": "A",
        "time": NOON.isoformat(),
        "partitionkey": "A",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "data": {"machine_id": "A", "kind": "inspection", "stage": "due", "milestone_h": 250, "free_of_charge": True},
    }


async def test_pages_go_on_where_the_one_before_ended(house: House) -> None:
    ids = list((await _some(house)).values())
    first = (await house.get("/v1/alerts", limit=2)).json()
    second = (await house.get("/v1/alerts", limit=2, cursor=first["next_cursor"])).json()
    third = (await house.get("/v1/alerts", limit=2, cursor=second["next_cursor"])).json()
    assert third["next_cursor"] is None
    assert [[item["id"] for item in page["items"]] for page in (first, second, third)] == [ids[:2], ids[2:4], ids[4:]]
    late = await house.raised("A", 6, stage="due")
    more = (await house.get("/v1/alerts", cursor=third["last_cursor"])).json()
    assert [item["id"] for item in more["items"]] == [late]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"type": "excavator.call_task.v1"}, "type"),
        ({"phase": "closed"}, "phase"),
        ({"severity": "fatal"}, "severity"),
        ({"machine_id": "a b"}, "machine_id"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"limit": 1_001}, "limit"),
    ],
)
async def test_what_the_list_does_not_take(house: House, params: dict[str, str | int], field: str) -> None:
    answer = await house.get("/v1/alerts", **params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_an_alert_that_commits_late_is_not_skipped(house: House, engine: AsyncEngine) -> None:
    first = await house.raised("A", 1)
    async with engine.begin() as slow:
        late = "00000000-0000-4000-8000-000000000002"
        await insert_alert(slow, "A", late, NOON)
        quick = await house.raised("A", 3)
        page = (await house.get("/v1/alerts")).json()
        assert [item["id"] for item in page["items"]] == [first]
    rest = (await house.get("/v1/alerts", cursor=page["last_cursor"])).json()
    assert [item["id"] for item in rest["items"]] == [late, quick]


async def test_the_list_uses_its_index(house: House) -> None:
    plan = await plan_of(house.engine, page_query(AlertFilter(), START, Cursor(1_000, 0), 100))
    assert "Index Scan using ix_event_cursor" in plan
    assert "Sort" not in plan


async def _take(streams: AlertStreams, which: AlertFilter, number: int) -> list[str]:
    ids: list[str] = []
    async with aclosing(streams.events(which, START)) as events:  # type: ignore[type-var]
        while len(ids) < number:
            event = await anext(events)
            ids.append(json.loads(str(event.data))["id"])
    return ids


async def test_a_stream_takes_batch_after_batch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry_svc.api.alerts.STREAM_BATCH", 2)
    ids = list((await _some(house)).values())
    assert await _take(AlertStreams(house.engine, QUICK, asyncio.Event()), AlertFilter(), 5) == ids


async def test_a_filtered_stream_passes_by_what_it_does_not_want(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry_svc.api.alerts.STREAM_BATCH", 1)
    ids = await _some(house)
    which = AlertFilter(severity="critical")
    assert await _take(AlertStreams(house.engine, QUICK, asyncio.Event()), which, 2) == [ids["opened"], ids["cleared"]]


async def test_only_so_many_streams_are_open(house: House) -> None:
    await house.raised("A", 1)
    streams = AlertStreams(house.engine, QUICK, asyncio.Event())
    open_ones = [streams.events(AlertFilter(), START) for _ in range(3)]
    for one in open_ones[:2]:
        await anext(one)
    with pytest.raises(Problem, match="as many streams"):
        await streams.answer(AlertFilter(), None)
    with pytest.raises(StopAsyncIteration):
        await anext(open_ones[2])
    await open_ones[0].aclose()  # type: ignore[attr-defined]
    assert await anext(streams.events(AlertFilter(), START)) is not None


@asynccontextmanager
async def _served(app: FastAPI) -> AsyncIterator[str]:
    """The app on a real server, for an ASGI client cannot read a stream as it comes."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server offers no event
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


async def _events(client: httpx.AsyncClient, url: str, headers: dict[str, str], number: int) -> list[dict[str, str]]:
    """So many events of a stream, with their fields; comments are events named `comment`."""
    events: list[dict[str, str]] = []
    current: dict[str, str] = {}
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if not line and current:
                events.append(current)
                current = {}
            if len(events) == number:
                return events
            if line:
                field, _, value = line.partition(":")
                current[field or "comment"] = value.strip()
    return events


@pytest.fixture
def quick_house(
    house: House, engine: AsyncEngine, policies: Mapping[EditionId, Policy], zones: frozenset[str]
) -> House:
    return House(engine, policies, zones, QUICK)


async def test_over_http_a_stream_resumes_without_a_gap(quick_house: House) -> None:
    house = quick_house
    headers = bearer(await house.key(Role.OPS))
    old = await house.raised("A", 1)
    page = (await house.get("/v1/alerts")).json()
    async with _served(house.app) as address, httpx.AsyncClient() as client:
        url = f"{address}/v1/alerts/stream"
        second, third = await house.raised("A", 2), await house.raised("B", 3)
        [first_event] = await _events(client, f"{url}?cursor={page['last_cursor']}", headers, 1)
        assert json.loads(first_event["data"])["id"] == second
        assert first_event["event"] == "excavator.maintenance_due.v1"
        fourth = await house.raised("A", 4)
        resumed = await _events(client, url, headers | {"Last-Event-ID": first_event["id"]}, 2)
        assert [json.loads(event["data"])["id"] for event in resumed] == [third, fourth]
        [from_now] = await _events(client, url, headers, 1)
        assert "comment" in from_now
        assert old not in str(from_now)


async def test_a_stream_ends_with_its_process(house: House) -> None:
    stopping = asyncio.Event()
    streams = AlertStreams(house.engine, StreamSettings(poll_s=3_600), stopping)
    reading = asyncio.ensure_future(anext(aiter(streams.events(AlertFilter(), START))))
    await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(StopAsyncIteration):
        await reading


async def test_a_stream_ends_when_the_database_goes_away() -> None:
    nowhere = create_engine(f"postgresql://user@127.0.0.1:{free_port()}/none", application_name="tests")
    streams = AlertStreams(nowhere, QUICK, asyncio.Event())
    assert [event async for event in streams.events(AlertFilter(), START)] == []
    await nowhere.dispose()


@pytest.mark.parametrize("headers", [{"Last-Event-ID": "no cursor"}, {"Last-Event-ID": "x" * 10_000}])
async def test_a_stream_from_nowhere_is_422(house: House, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://t") as client:
        answer = await client.get("/v1/alerts/stream", headers=headers | bearer(await house.key(Role.OPS)))
    assert answer.status_code == 422
