"""Devices and operators at the real door: what is let in gets all the way through, what is not gets nowhere."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from telemetry_svc import topics
from telemetry_svc.store.keys import Role
from telemetry_svc.stream.kafka import client_options, partition_of
from tests.conftest import ends_of
from tests.e2e.house import House, until
from tests.e2e.readings import fact_in

OTHER = "ZE215-000018"
MIB = 1024 * 1024


def ping(machine_id: str, recorded_at: str = "2026-11-20T04:20:31Z", **fields: Any) -> dict[str, Any]:
    return {"machine_id": machine_id, "recorded_at": recorded_at} | fields


async def registered(house: House, machine_id: str) -> None:
    """Registers and waits until ingest knows it, for which the contract gives 5 s."""
    answer = await house.ask("POST", "/v1/machines", json={"machine_id": machine_id, "tonnage_t": 21.5})
    assert answer.status_code == 201
    async with house.client() as client:

        async def is_known() -> bool:
            return (await client.get(f"/v1/machines/{machine_id}")).json()["state"] is not None

        await until(is_known, within_s=5)


async def alerts_of(house: House, machine_id: str) -> list[dict[str, Any]]:
    answer = await house.ask("GET", "/v1/alerts", params={"machine_id": machine_id})
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def end_of_pings(house: House) -> int:
    return sum((await ends_of(house.kafka, [topics.PINGS])).values())


async def dead_letters(house: House, machine_id: str) -> list[tuple[str, bytes]]:
    """(class, original value) of the dead letters with this key on their topic, in order of offset."""
    letters = [record for record in await house.topic(topics.DEAD_LETTERS) if record.key == machine_id.encode()]
    headers = [dict(letter.headers) for letter in letters]
    found = sorted(zip((int(one["x-original-offset"]) for one in headers), headers, letters, strict=True), key=_first)
    return [(one["x-error-class"].decode(), letter.value or b"") for _, one, letter in found]


def _first(one: tuple[int, Any, Any]) -> int:
    return one[0]


async def test_a_device_speaks_for_its_machine_and_the_reading_becomes_an_alert_and_a_call(house: House) -> None:
    await registered(house, "door-1")
    key = await house.key(Role.DEVICE, "door-1")
    sent = [ping("door-1", hour_meter_h=49.99, sequence=1), ping("door-1", "2026-11-20T05:20:31Z", hour_meter_h=50.0)]
    answer = await house.ask("POST", "/v1/pings", key=key, json=sent)
    assert answer.status_code == 202
    assert [verdict["status"] for verdict in answer.json()["verdicts"]] == ["accepted", "accepted"]
    await house.settle()
    assert await house.rows("SELECT hour_meter_ch, sequence FROM ping WHERE machine_id = 'door-1' ORDER BY 1") == [
        (4_999, 1),
        (5_000, None),
    ]
    assert [fact_in(alert) for alert in await alerts_of(house, "door-1")] == [
        ("inspection", "50", "upcoming"),
        ("inspection", "50", "due"),
    ]
    [task] = (await house.ask("GET", "/v1/calls", params={"machine_id": "door-1"})).json()["items"]
    assert [(reason["stage"], reason["milestone_h"]) for reason in task["reasons"]] == [("due", 50)]


async def test_a_device_may_speak_for_no_other_machine(house: House) -> None:
    await registered(house, "door-2")
    await registered(house, OTHER)
    key = await house.key(Role.DEVICE, "door-2")
    before = await end_of_pings(house)
    refused = await house.ask("POST", "/v1/pings", key=key, json=[ping(OTHER, hour_meter_h=50)])
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert await end_of_pings(house) == before
    mixed = [ping(OTHER, hour_meter_h=50), ping("door-2", hour_meter_h=10)]
    answer = await house.ask("POST", "/v1/pings", key=key, json=mixed)
    assert [verdict["status"] for verdict in answer.json()["verdicts"]] == ["forbidden", "accepted"]
    await house.settle()
    assert await end_of_pings(house) == before + 1
    assert await house.rows("SELECT machine_id FROM ping WHERE machine_id IN ('door-2', :o)", o=OTHER) == [("door-2",)]
    assert await alerts_of(house, OTHER) == []


async def test_an_unknown_machines_pings_wait_as_dead_letters_until_it_is_registered(house: House) -> None:
    key = await house.key(Role.DEVICE)
    sent = [ping("ghost-1", f"2026-11-20T0{hour}:00:00Z", hour_meter_h=249.0 + hour / 2) for hour in range(3)]
    answer = await house.ask("POST", "/v1/pings", key=key, json=sent)
    assert [verdict["status"] for verdict in answer.json()["verdicts"]] == ["accepted"] * 3
    await house.settle()
    assert [(name, json.loads(value)) for name, value in await dead_letters(house, "ghost-1")] == [
        ("unknown_machine", one) for one in sent
    ]
    assert (await house.ask("GET", "/v1/machines/ghost-1")).status_code == 404
    assert await alerts_of(house, "ghost-1") == []
    before = await end_of_pings(house)
    received = await house.rows("SELECT record_timestamp FROM dead_letter WHERE machine_id = 'ghost-1' ORDER BY 1")

    await registered(house, "ghost-1")
    await house.settle()
    facts = [fact_in(alert) for alert in await alerts_of(house, "ghost-1")]
    assert facts == [
        ("inspection", "50", "due"),
        ("inspection", "50", "overdue"),
        ("inspection", "250", "upcoming"),
        ("inspection", "250", "due"),
    ]
    stored = await house.rows("SELECT received_at FROM ping WHERE machine_id = 'ghost-1' ORDER BY recorded_at")
    assert stored == received
    assert await end_of_pings(house) == before
    assert len(await dead_letters(house, "ghost-1")) == 3


NESTED = b'{"machine_id":"door-3","recorded_at":"2026-11-20T04:20:31Z","hour_meter_h":1,"x":%s}'
BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"hour_meter_h=1", "malformed"),
    "not UTF-8, in a field we do not know": (NESTED % b'"\xff"', "malformed"),
    "NaN, in a field we do not know": (NESTED % b"NaN", "malformed"),
    "10 000 levels, closed": (NESTED % (b"[" * 10_000 + b"]" * 10_000), "malformed"),
    "65 levels": (NESTED % (b"[" * 64 + b"]" * 64), "malformed"),
    "text for a number": (NESTED.replace(b":1,", b':"1",') % b"1", "invalid"),
    "a fraction for a whole number": (NESTED % b'1,"sequence":1.0', "invalid"),
    "NUL in a string that we know": (NESTED % b'1,"device_id":"a\\u0000"', "invalid"),
    "out of range": (NESTED % b'1,"sensors":{"battery_v":100.1}', "invalid"),
    "the 13th month": (NESTED.replace(b"2026-11", b"2026-13") % b"1", "invalid"),
    "nothing measured": (b'{"machine_id":"door-3","recorded_at":"2026-11-20T04:20:31Z"}', "invalid"),
    "one byte over 64 KiB": (NESTED % (b'"' + b"y" * (64 * 1024 + 1 - len(NESTED)) + b'"'), "too_large"),
    "the broker's largest": (NESTED % (b'"' + b"y" * (MIB - 300) + b'"'), "too_large"),
}
TAKEN = {
    "64 levels": NESTED % (b"[" * 63 + b"]" * 63),
    "64 KiB": NESTED % (b'"' + b"y" * (64 * 1024 - len(NESTED)) + b'"'),
    "NUL where we do not look": NESTED % b'"\\u0000"',
}


@pytest.fixture
async def producer(house: House) -> AsyncIterator[AIOKafkaProducer]:
    options = client_options(house.kafka, "tests")
    async with AIOKafkaProducer(**options, acks="all", max_request_size=2 * MIB) as producer:
        yield producer


async def test_a_bad_record_is_one_dead_letter_and_its_neighbours_are_stored(
    house: House, producer: AIOKafkaProducer
) -> None:
    """Good and bad in turn on one partition, in one go, so that they share fetches and transactions."""
    await registered(house, "door-3")
    good = [ping("door-3", f"2026-11-20T05:{n:02d}:00Z", hour_meter_h=10) for n in range(len(BAD))]
    values = [value for (bad, _), one in zip(BAD.values(), good, strict=True) for value in (bad, _bytes(one))]
    values += TAKEN.values()
    acks = [await producer.send(topics.PINGS, value, key=b"door-3") for value in values]
    await asyncio.gather(*acks)
    await house.settle()
    found = await dead_letters(house, "door-3")
    assert [name for name, _ in found] == [name for _, name in BAD.values()]
    assert [value for _, value in found] == [value for value, _ in BAD.values()]
    stored = await house.rows("SELECT count(*), count(DISTINCT recorded_at) FROM ping WHERE machine_id = 'door-3'")
    assert stored == [(len(good) + 1, len(good) + 1)], "the three good ones of 04:20:31 are the same ping by content"
    assert (await house.ask("GET", "/livez")).status_code == 200


def _bytes(one: dict[str, Any]) -> bytes:
    return json.dumps(one).encode()


async def test_who_a_record_is_from_is_checked_in_its_order(house: House, producer: AIOKafkaProducer) -> None:
    await registered(house, "door-4")
    value = _bytes(ping("door-4", hour_meter_h=1))
    place = partition_of(b"door-4", 12)
    records: list[tuple[bytes | None, bytes, int]] = [
        (None, value, place),
        (b"\xff\xfe", value, place),
        (b"door-5", value, place),
        (b"door-4", value, (place + 1) % 12),
        (b"nobody", _bytes(ping("nobody", hour_meter_h=1)), (partition_of(b"nobody", 12) + 1) % 12),
    ]
    for key, record, partition in records:
        await producer.send_and_wait(topics.PINGS, record, key=key, partition=partition)
    await house.settle()
    rows = await house.rows(
        "SELECT record_key, error_class FROM dead_letter WHERE record_value IN (:a, :b)", a=value, b=records[-1][1]
    )
    assert Counter(rows) == {
        (None, "key_mismatch"): 1,
        (b"\xff\xfe", "key_mismatch"): 1,
        (b"door-5", "key_mismatch"): 1,
        (b"door-4", "wrong_partition"): 1,
        (b"nobody", "unknown_machine"): 1,
    }
    assert await house.rows("SELECT count(*) FROM ping WHERE machine_id = 'door-4'") == [(0,)]


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(17):
        yield b" " * 65_536


PING = _bytes(ping("door-6", hour_meter_h=1))
REFUSED = [
    pytest.param({"content": b"[" + b" " * MIB + b"]"}, 413, id="over 1 MiB"),
    pytest.param({"content": "chunked"}, 413, id="over 1 MiB, not said beforehand"),
    pytest.param({"json": [ping("door-6", hour_meter_h=1)] * 1_001}, 422, id="1 001 pings"),
    pytest.param({"content": b"\x1f\x8b\x08", "headers": {"Content-Encoding": "gzip"}}, 415, id="compressed"),
    pytest.param({"content": b"[" + PING + b",]"}, 400, id="not JSON"),
    pytest.param({"content": PING}, 422, id="no array"),
    pytest.param({"json": [ping(OTHER, hour_meter_h=1)]}, 403, id="another's machine"),
    pytest.param({"json": [ping("door-6")], "key": "tsk_0123456789abcdef_" + "x" * 43}, 401, id="a bad key"),
    pytest.param({"json": [ping("door-6")], "headers": {"Authorization": ""}}, 401, id="no key"),
    pytest.param({"json": [ping("door-6")], "role": Role.OPS}, 403, id="a key of another role"),
]


@pytest.mark.parametrize(("how", "status"), REFUSED)
async def test_what_the_door_refuses_reaches_nothing(house: House, how: dict[str, Any], status: int) -> None:
    asked = {"key": None if "role" in how else await house.key(Role.DEVICE, "door-6")} | how
    if asked.get("content") == "chunked":
        asked["content"] = _chunks()
    before = await end_of_pings(house)
    answer = await house.ask("POST", "/v1/pings", **asked)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert await end_of_pings(house) == before


async def test_an_operator_sees_the_alert_as_it_is_raised(house: House) -> None:
    await registered(house, "door-7")
    key = await house.key(Role.DEVICE, "door-7")
    fault = {"spn": 110, "fmi": 0, "lamp": "red_stop"}
    sent = ping("door-7", datetime.now(UTC).isoformat(), faults=[fault], engine_running=True)
    async with (
        asyncio.timeout(20),
        house.client(Role.OPS) as client,
        client.stream("GET", "/v1/alerts/stream", params={"machine_id": "door-7"}) as stream,
    ):
        assert (await house.ask("POST", "/v1/pings", key=key, json=[sent])).status_code == 202
        event = json.loads(await _first_data(stream))
    assert (event["type"], event["data"]["phase"], event["data"]["severity"]) == (
        "excavator.anomaly.v1",
        "opened",
        "critical",
    )
    assert [alert["id"] for alert in await alerts_of(house, "door-7")] == [event["id"]]


async def _first_data(stream: httpx.Response) -> str:
    async for line in stream.aiter_lines():
        if line.startswith("data: "):
            return line.removeprefix("data: ")
    raise AssertionError("the stream ended without an event")


async def test_on_loopback_a_stranger_may_look_but_not_touch(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.address) as stranger:
        statuses = {
            path: (await stranger.get(path)).status_code
            for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/v1/machines", "/v1/calls", "/nowhere")
        }
    assert statuses == {
        "/livez": 200,
        "/readyz": 200,
        "/metrics": 200,
        "/openapi.json": 200,
        "/v1/machines": 401,
        "/v1/calls": 401,
        "/nowhere": 404,
    }
