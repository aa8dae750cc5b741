"""A body is bounded in size and time, and never unpacked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CollectorRegistry

from telemetry_svc.web import Access, Limits
from telemetry_svc.web.limits import MIB
from tests.web.doubles import app_of, client_of

ACCESS = [Access("POST", "/v1/length", open_to_all=True)]


def _app(limits: Limits | None = None, registry: CollectorRegistry | None = None) -> FastAPI:
    router = APIRouter()

    @router.post("/v1/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    return app_of([router], limits=limits, more_access=ACCESS, registry=registry)


async def _chunks(size: int, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(size // 65_536):
        yield b"x" * 65_536
        await asyncio.sleep(pause_s)
    yield b"x" * (size % 65_536)


@pytest.mark.parametrize(
    ("size", "status"),
    [pytest.param(MIB, 200, id="one MiB"), pytest.param(MIB + 1, 413, id="a byte more")],
)
async def test_the_size_of_a_body_with_its_length(size: int, status: int) -> None:
    async with client_of(_app()) as client:
        answer = await client.post("/v1/length", content=b"x" * size)
    assert answer.status_code == status
    assert (answer.headers.get("connection") == "close") == (status == 413)


@pytest.mark.parametrize(
    ("size", "status"),
    [pytest.param(MIB, 200, id="one MiB"), pytest.param(MIB + 1, 413, id="a byte more")],
)
async def test_the_size_of_a_body_in_chunks_without_a_length(size: int, status: int) -> None:
    async with client_of(_app()) as client:
        answer = await client.post("/v1/length", content=_chunks(size))
    assert answer.status_code == status


async def test_a_client_that_hangs_up_in_its_body_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """The server logs with a trace whatever comes out of the app; nothing does, and it is counted as what it is."""
    registry = CollectorRegistry()
    app = _app(registry=registry)
    messages = iter([{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(_message: Any) -> None:
        """Nobody hears it."""

    scope = {"type": "http", "method": "POST", "path": "/v1/length", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert caplog.records == []
    labels = {"method": "POST", "route": "/v1/length", "status": "499"}
    assert registry.get_sample_value("http_requests_total", labels) == 1


async def test_an_endless_body_is_read_no_further_than_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    async with client_of(_app()) as client:
        answer = await client.post("/v1/length", content=endless())
    assert answer.status_code == 413
    assert sent <= MIB + 2 * 65_536


@pytest.mark.parametrize("length", ["2147483648", "9" * 5_000], ids=["2 GB", "5 000 digits"])
async def test_an_announced_length_is_refused_unread(length: str) -> None:
    read = False

    async def unread() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"x"

    request = httpx.Request("POST", "http://t/v1/length", content=unread(), headers={"Content-Length": length})
    async with client_of(_app()) as client:
        answer = await client.send(request)
    assert answer.status_code == 413
    assert not read


@pytest.mark.parametrize(
    ("encoding", "status"),
    [
        pytest.param("gzip", 415, id="gzip"),
        pytest.param("deflate, gzip", 415, id="two"),
        pytest.param("", 415, id="empty"),
        pytest.param("Identity", 200, id="identity"),
    ],
)
async def test_compressed_bodies_are_415(encoding: str, status: int) -> None:
    async with client_of(_app()) as client:
        answer = await client.post("/v1/length", content=b"x", headers={"Content-Encoding": encoding})
    assert answer.status_code == status


async def test_a_body_that_trickles_is_408() -> None:
    never = asyncio.Event()

    async def trickle() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async with client_of(_app(Limits(body_s=0.05))) as client:
        answer = await client.post("/v1/length", content=trickle())
    assert answer.status_code == 408
