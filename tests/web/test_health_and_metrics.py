"""Liveness, readiness and what is counted."""

import asyncio
from collections.abc import Sequence

import pytest
from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from telemetry_svc.web import Access, Check, Health
from tests.web.doubles import app_of, client_of


async def _well() -> str | None:
    return None


async def _sick() -> str | None:
    return "migrations are behind"


async def _raising() -> str | None:
    raise ConnectionRefusedError("postgresql://user:password@host")


async def _hanging() -> str | None:
    await asyncio.Event().wait()
    return None


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_well(path: str) -> None:
    checks: dict[str, Check] = {"loop": _well}
    async with client_of(app_of(health=Health(live=checks, ready=checks))) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {"loop": "ok"}})


async def test_each_check_is_named_with_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry_svc.web.health.CHECK_TIMEOUT_S", 0.01)
    ready: dict[str, Check] = {"loop": _well, "migrations": _sick, "database": _raising, "broker": _hanging}
    async with client_of(app_of(health=Health(live={"loop": _well}, ready=ready))) as client:
        live, answer = await client.get("/livez"), await client.get("/readyz")
    assert live.status_code == 200
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["checks"] == {
        "loop": "ok",
        "migrations": "migrations are behind",
        "database": "ConnectionRefusedError",
        "broker": "no answer in time",
    }
    assert "password" not in answer.text


def _routes() -> APIRouter:
    router = APIRouter()

    @router.get("/v1/thing/{name}")
    async def thing(name: str) -> str:
        if name == "bad":
            raise RuntimeError(name)
        return name

    return router


async def _counted(registry: CollectorRegistry, paths: Sequence[str]) -> None:
    access = [Access("GET", "/v1/thing/{name}", open_to_all=True)]
    async with client_of(app_of([_routes()], registry=registry, more_access=access)) as client:
        for path in paths:
            await client.get(path)


async def test_requests_are_counted_by_template_and_status() -> None:
    registry = CollectorRegistry()
    await _counted(registry, ["/v1/thing/a", "/v1/thing/b", "/v1/thing/bad", "/nowhere", "/else"])

    def count(method: str, route: str, status: str) -> float | None:
        labels = {"method": method, "route": route, "status": status}
        return registry.get_sample_value("http_requests_total", labels)

    assert count("GET", "/v1/thing/{name}", "200") == 2
    assert count("GET", "/v1/thing/{name}", "500") == 1
    assert count("other", "unmatched", "404") == 2
    seconds = registry.get_sample_value("http_request_duration_seconds_count", {"route": "/v1/thing/{name}"})
    assert seconds == 3


async def test_metrics_show_the_registry_that_was_handed_in() -> None:
    async with client_of(app_of(), host="127.0.0.1") as client:
        await client.get("/livez")
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'http_requests_total{method="GET",route="/livez",status="200"} 1.0' in answer.text
    assert "python_info" not in answer.text
