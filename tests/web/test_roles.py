"""The role matrix, each role at each route, against contract.md's words written down a second time."""

import re

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from telemetry_svc.store.keys import Role
from telemetry_svc.web import ACCESS, Access
from telemetry_svc.web.application import UndeclaredRouteError
from tests.web.doubles import KeysInMemory, app_of, bearer, client_of

MACHINES = "/v1/machines"
TASK = "/v1/calls/{task_id}"

EXPECTED: dict[tuple[str, str], str] = {
    ("POST", "/v1/pings"): "device",
    ("GET", MACHINES): "ops call_center supervisor",
    ("POST", MACHINES): "ops",
    ("GET", f"{MACHINES}/{{machine_id}}"): "ops call_center supervisor",
    ("GET", f"{MACHINES}/{{machine_id}}/pings"): "ops call_center supervisor",
    ("POST", f"{MACHINES}/{{machine_id}}/inspections"): "ops",
    ("POST", f"{MACHINES}/{{machine_id}}/meter"): "ops",
    ("GET", "/v1/commands/{command_id}"): "ops",
    ("GET", "/v1/alerts"): "ops call_center supervisor",
    ("GET", "/v1/alerts/stream"): "ops call_center supervisor",
    ("GET", "/v1/alerts/{alert_id}/why"): "ops call_center supervisor",
    ("GET", "/v1/dead-letters"): "ops",
    ("POST", "/v1/dead-letters/replay"): "ops",
    ("GET", "/v1/dead-letters/{letter_id}"): "ops",
    ("GET", "/v1/calls"): "ops call_center supervisor",
    ("GET", "/v1/calls/stream"): "ops call_center supervisor",
    ("GET", TASK): "ops call_center supervisor",
    ("POST", "/v1/calls/claim"): "call_center supervisor",
    **{("POST", f"{TASK}/{verb}"): "call_center supervisor" for verb in ("claim", "renew", "release", "reject")},
    ("POST", f"{TASK}/outcome"): "call_center supervisor",
    ("POST", f"{TASK}/unhold"): "supervisor",
    ("POST", f"{TASK}/cancel"): "supervisor",
    ("GET", "/metrics"): "ops",
    ("GET", "/openapi.json"): "ops call_center supervisor",
}
"""Beside admin, who may do everything. A route that is missing here fails the test below."""

OPEN = {("GET", "/livez"), ("GET", "/readyz")}
ON_LOOPBACK = {("GET", "/metrics"), ("GET", "/openapi.json")}
BUILT_IN = OPEN | ON_LOOPBACK


def _every_route() -> APIRouter:
    router = APIRouter()
    for access in ACCESS:
        if (access.method, access.path) not in BUILT_IN:
            router.add_api_route(access.path, _nothing, methods=[access.method], status_code=204)
    return router


def _nothing() -> None:
    return None


@pytest.fixture
def keys() -> KeysInMemory:
    return KeysInMemory()


@pytest.fixture
def app(keys: KeysInMemory) -> FastAPI:
    return app_of([_every_route()], keys=keys)


async def _status(client: httpx.AsyncClient, row: tuple[str, str], headers: dict[str, str]) -> int:
    answer = await client.request(row[0], re.sub(r"\{\w+\}", "x1", row[1]), headers=headers)
    return answer.status_code


def test_the_matrix_names_what_is_expected_and_nothing_else() -> None:
    assert {(access.method, access.path) for access in ACCESS} == EXPECTED.keys() | OPEN


@pytest.mark.parametrize("row", EXPECTED, ids=" ".join)
@pytest.mark.parametrize("role", Role)
async def test_each_role_at_each_route(app: FastAPI, keys: KeysInMemory, role: Role, row: tuple[str, str]) -> None:
    allowed = role is Role.ADMIN or role in EXPECTED[row].split()
    async with client_of(app) as client:
        status = await _status(client, row, bearer(keys.add(role)))
    assert status == (403 if not allowed else 200 if row in ON_LOOPBACK else 204)


@pytest.mark.parametrize("row", EXPECTED, ids=" ".join)
async def test_nobody_passes_without_a_key(app: FastAPI, row: tuple[str, str]) -> None:
    async with client_of(app) as client:
        assert await _status(client, row, {}) == 401


@pytest.mark.parametrize("row", sorted(OPEN), ids=" ".join)
async def test_health_is_open(app: FastAPI, row: tuple[str, str]) -> None:
    async with client_of(app) as client:
        assert await _status(client, row, {}) == 200


@pytest.mark.parametrize("row", sorted(ON_LOOPBACK), ids=" ".join)
@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        pytest.param("127.0.0.1", {}, 200, id="this machine"),
        pytest.param("::1", {}, 200, id="this machine, IPv6"),
        pytest.param("203.0.113.7", {}, 401, id="elsewhere"),
        pytest.param("127.0.0.1", {"X-Forwarded-For": "203.0.113.7"}, 401, id="a proxy on this machine"),
        pytest.param("127.0.0.1", {"Forwarded": "for=203.0.113.7"}, 401, id="a proxy that says Forwarded"),
        pytest.param("testclient", {}, 401, id="no address"),
    ],
)
async def test_what_is_open_on_loopback(
    app: FastAPI, row: tuple[str, str], host: str, headers: dict[str, str], status: int
) -> None:
    async with client_of(app, host=host) as client:
        assert await _status(client, row, headers) == status


async def test_a_stranger_is_told_before_his_body_is_read(app: FastAPI) -> None:
    async with client_of(app) as client:
        answer = await client.post(MACHINES, content=b"not JSON at all")
    assert answer.status_code == 401


def test_a_route_without_a_row_does_not_start() -> None:
    router = APIRouter()
    router.add_api_route("/v1/forgotten", _nothing)
    with pytest.raises(UndeclaredRouteError, match=r"/v1/forgotten"):
        app_of([router])


def test_a_row_for_another_method_is_not_enough() -> None:
    router = APIRouter()
    router.add_api_route("/livez", _nothing, methods=["DELETE"])
    with pytest.raises(UndeclaredRouteError, match="DELETE"):
        app_of([router], more_access=[Access("PUT", "/livez")])
