"""`POST /v1/pings` line by line of the contract, with a sink that keeps a list."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from telemetry_svc.gateway import BrokerUnavailable, GatewayMetrics, GatewaySettings, create_router
from telemetry_svc.gateway.routes import NDJSON
from telemetry_svc.store.keys import Role
from tests.web.doubles import KeysInMemory, app_of, bearer, client_of

OWN, OTHER = "ZE215-000017", "ZE215-000018"
Post = Callable[..., Any]


class ListSink:
    """Keeps what it is sent; `away`: the broker does not answer; `gate`: it answers when told."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.away = False
        self.gate: asyncio.Event | None = None
        self.arrivals = asyncio.Semaphore(0)

    async def send(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        if self.away:
            raise BrokerUnavailable
        self.arrivals.release()
        if self.gate is not None:
            await self.gate.wait()
        self.records.extend(records)


class Gateway:
    """A gateway with one device key for `OWN`, and what it sent."""

    def __init__(self, settings: GatewaySettings | None = None) -> None:
        self.sink = ListSink()
        self.keys = KeysInMemory()
        self.registry = CollectorRegistry()
        metrics = GatewayMetrics(self.registry)
        router = create_router(sink=self.sink, metrics=metrics, settings=settings)
        self.app = app_of([router], keys=self.keys)
        self.key = self.keys.add(Role.DEVICE, [OWN])

    async def post(self, body: bytes, *, content_type: str = "application/json", key: str | None = None) -> Any:
        headers = {**bearer(key or self.key), "Content-Type": content_type}
        async with client_of(self.app) as client:
            return await client.post("/v1/pings", content=body, headers=headers)

    def counted(self, status: str, error_class: str = "") -> float | None:
        labels = {"status": status, "error_class": error_class}
        return self.registry.get_sample_value("gateway_pings_total", labels)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def _ping(machine_id: str = OWN, **more: object) -> bytes:
    return json.dumps(
        {"machine_id": machine_id, "recorded_at": "2026-11-22T04:20:31Z", "hour_meter_h": 249.9} | more
    ).encode()


def _verdicts(answer: httpx.Response) -> list[tuple[str, str | None]]:
    assert answer.status_code == 202, answer.text
    verdicts = answer.json()["verdicts"]
    assert [verdict["index"] for verdict in verdicts] == list(range(len(verdicts)))
    return [(verdict["status"], verdict["error_class"]) for verdict in verdicts]


ACCEPTED = ("accepted", None)
FORBIDDEN = ("forbidden", None)
MALFORMED, INVALID, TOO_LARGE = (("rejected", name) for name in ("malformed", "invalid", "too_large"))

BAD_PINGS = [
    pytest.param(_ping()[:-1] + b"," + b'"x":"\xff"}', MALFORMED, id="not UTF-8 in an unknown field"),
    pytest.param(_ping()[:-1], MALFORMED, id="not JSON"),
    pytest.param(_ping()[:-1] + b',"x":NaN}', MALFORMED, id="NaN in an unknown field"),
    pytest.param(b"[" * 10_000 + b"]" * 10_000, MALFORMED, id="10 000 levels"),
    pytest.param(b'{"a":' * 64 + b"1" + b"}" * 64, INVALID, id="64 levels are JSON, but no ping"),
    pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, MALFORMED, id="65 levels"),
    pytest.param(_ping(hour_meter_h="249.9"), INVALID, id="text for a number"),
    pytest.param(_ping(hour_meter_h=200_000.01), INVALID, id="out of range"),
    pytest.param(_ping()[:-1] + b',"x":1e999}', INVALID, id="1e999 in an unknown field"),
    pytest.param(_ping()[:-1] + b',"x":"\\ud800"}', INVALID, id="half of a surrogate pair"),
    pytest.param(_ping(device_id="a\x00b"), INVALID, id="NUL in a string"),
    pytest.param(b"[1]", INVALID, id="no object"),
    pytest.param(_ping(x="y" * 65_536), TOO_LARGE, id="over 64 KiB"),
]


@pytest.mark.parametrize(("bad", "verdict"), BAD_PINGS)
async def test_in_ndjson_a_bad_line_is_one_verdict_and_its_neighbours_pass(
    gateway: Gateway, bad: bytes, verdict: tuple[str, str]
) -> None:
    body = b"\n".join([_ping(sequence=1), bad, _ping(sequence=2)])
    answer = await gateway.post(body, content_type=NDJSON)
    assert _verdicts(answer) == [ACCEPTED, verdict, ACCEPTED]
    assert gateway.sink.records == [(OWN.encode(), _ping(sequence=1)), (OWN.encode(), _ping(sequence=2))]
    assert gateway.counted("accepted") == 2
    assert gateway.counted(*verdict) == 1


@pytest.mark.parametrize(("bad", "verdict"), BAD_PINGS)
async def test_in_an_array_only_what_is_no_json_spoils_the_rest(
    gateway: Gateway, bad: bytes, verdict: tuple[str, str]
) -> None:
    answer = await gateway.post(b"[" + b", ".join([_ping(sequence=1), bad, _ping(sequence=2)]) + b"]")
    is_json = verdict != MALFORMED or bad.startswith((b"[[", b'{"a":{'))
    if is_json:
        assert _verdicts(answer) == [ACCEPTED, verdict, ACCEPTED]
        assert len(gateway.sink.records) == 2
    else:
        assert answer.status_code == 400
        assert gateway.sink.records == []


async def test_the_bytes_of_a_ping_reach_the_topic_as_they_came(gateway: Gateway) -> None:
    odd = b'{ "hour_meter_h" : 249.90, "machine_id": "ZE215-000017",\t"recorded_at":"2026-11-22t12:20:31.5+08:00"}'
    assert _verdicts(await gateway.post(b" [" + odd + b" ]\n")) == [ACCEPTED]
    assert gateway.sink.records == [(b"ZE215-000017", odd)]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(b"", "application/json", 400, id="empty"),
        pytest.param(b"", NDJSON, 422, id="empty NDJSON"),
        pytest.param(b"\n \r\n", NDJSON, 422, id="blank lines"),
        pytest.param(b"[]", "application/json", 422, id="no ping"),
        pytest.param(_ping(), "application/json", 422, id="no array"),
        pytest.param(b"[" + _ping() + b"]", "", 202, id="an array without a type"),
        pytest.param(b"[" + _ping() + b"]", "text/plain", 202, id="an array under another type"),
        pytest.param(_ping(), "Application/X-NDJSON; charset=utf-8", 202, id="NDJSON with a parameter"),
        pytest.param(b"[" + b",".join([_ping()] * 1_000) + b"]", "application/json", 202, id="1 000 pings"),
        pytest.param(b"[" + b",".join([_ping()] * 1_001) + b"]", "application/json", 422, id="1 001 pings"),
        pytest.param(b"\n".join([_ping()] * 1_001), NDJSON, 422, id="1 001 lines"),
        pytest.param(b" " * 1_048_577, "application/json", 413, id="over 1 MiB"),
    ],
)
async def test_the_shape_of_the_body(gateway: Gateway, body: bytes, content_type: str, status: int) -> None:
    answer = await gateway.post(body, content_type=content_type)
    assert answer.status_code == status
    assert len(gateway.sink.records) == (body.count(OWN.encode()) if status == 202 else 0)
    if status == 422:
        assert answer.json()["errors"][0]["field"] == "body"


async def test_compressed_bodies_are_415(gateway: Gateway) -> None:
    async with client_of(gateway.app) as client:
        headers = {**bearer(gateway.key), "Content-Encoding": "gzip"}
        answer = await client.post("/v1/pings", content=b"\x1f\x8b", headers=headers)
    assert answer.status_code == 415


async def test_a_bad_key_is_401(gateway: Gateway) -> None:
    answer = await gateway.post(b"[" + _ping() + b"]", key="tsk_0000000000000001_" + "x" * 43)
    assert answer.status_code == 401
    assert gateway.sink.records == []


@pytest.mark.parametrize(
    ("pings", "expected"),
    [
        pytest.param([_ping(OTHER)], None, id="only another's"),
        pytest.param([_ping(OTHER, hour_meter_h=-1)], None, id="another's, and invalid"),
        pytest.param([_ping(OTHER)[:-1] + b',"x":1e999}'], None, id="another's, and JSON that we do not take"),
        pytest.param([_ping(OTHER), b"1"], None, id="another's, and one of nobody"),
        pytest.param([_ping(OTHER), _ping()], [FORBIDDEN, ACCEPTED], id="another's and its own"),
        pytest.param([_ping(OTHER), _ping(hour_meter_h=-1)], [FORBIDDEN, INVALID], id="its own is invalid"),
        pytest.param([b"1", b"{}"], [INVALID, INVALID], id="of nobody"),
        pytest.param([_ping("bad id")], [INVALID], id="no valid id"),
    ],
)
async def test_for_whom_a_key_speaks(
    gateway: Gateway, pings: list[bytes], expected: list[tuple[str, str | None]] | None
) -> None:
    answer = await gateway.post(b"[" + b",".join(pings) + b"]")
    if expected is None:
        assert answer.status_code == 403
    else:
        assert _verdicts(answer) == expected
    assert len(gateway.sink.records) == (expected or []).count(ACCEPTED)


async def test_a_key_for_all_machines_sends_for_any(gateway: Gateway) -> None:
    answer = await gateway.post(b"[" + _ping("never-registered") + b"]", key=gateway.keys.add(Role.DEVICE))
    assert _verdicts(answer) == [ACCEPTED]


async def test_without_the_broker_there_is_no_202(gateway: Gateway) -> None:
    gateway.sink.away = True
    answer = await gateway.post(b"[" + _ping() + b"]")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert gateway.counted("accepted") is None
    assert gateway.registry.get_sample_value("gateway_broker_unavailable_total") == 1


async def test_verdicts_without_an_accepted_ping_need_no_broker(gateway: Gateway) -> None:
    gateway.sink.away = True
    assert _verdicts(await gateway.post(b"[1]")) == [INVALID]


async def test_only_so_many_requests_are_at_work() -> None:
    gateway = Gateway(GatewaySettings(max_in_flight=2))
    gateway.sink.gate = asyncio.Event()
    body = b"[" + _ping() + b"]"
    waiting = [asyncio.create_task(gateway.post(body)) for _ in range(2)]
    for _ in waiting:
        await gateway.sink.arrivals.acquire()
    refused = await gateway.post(body)
    gateway.sink.gate.set()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [202, 202]
    assert gateway.registry.get_sample_value("gateway_requests_in_flight") == 0
