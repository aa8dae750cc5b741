"""Every error is a problem that names the field and repeats nothing of what was sent."""

import json
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, HTTPException, Query
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from telemetry_svc.store.keys import KeyRecord, Role
from telemetry_svc.web import Access, JsonRoute
from telemetry_svc.web.fields import Instant, Line, Name, Phone, StrictBody
from telemetry_svc.web.problems import MEDIA_TYPE, not_found
from telemetry_svc.wording import words_of
from tests.web.doubles import KeysInMemory, app_of, bearer, client_of

SECRET = "+8613912345678"


class Body(StrictBody):
    machine_id: Name
    hours_h: float
    phones: list[Phone] | None = None
    at: Instant | None = None
    text: Line | None = None


class _Refusal(Exception):
    """What asyncpg raises, with its SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(SECRET)
        self.sqlstate = sqlstate


def _raising() -> dict[str, Exception]:
    return {
        "defect": RuntimeError(SECRET),
        "teapot": HTTPException(418, SECRET),
        "missing": not_found("machine"),
        "refused": ConnectionRefusedError(SECRET),
        "pool": PoolTimeoutError(SECRET),
        "interface": InterfaceError(SECRET, None, _Refusal("")),
        "operational": OperationalError(SECRET, None, _Refusal("")),
        "disk_full": DBAPIError(SECRET, None, _Refusal("53100")),
        "read_only": DBAPIError(SECRET, None, _Refusal("25006")),
        "shutting_down": DBAPIError(SECRET, None, _Refusal("57P01")),
        "syntax": ProgrammingError(SECRET, None, _Refusal("42601")),
    }


def _routes() -> APIRouter:
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/body")
    async def post(body: Body) -> Body:
        return body

    @router.get("/v1/raise/{what}")
    async def fail(what: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 1) -> None:
        raise _raising()[what]

    return router


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    access = [Access("POST", "/v1/body", open_to_all=True), Access("GET", "/v1/raise/{what}", open_to_all=True)]
    async with client_of(app_of([_routes()], more_access=access)) as client:
        yield client


def _problem(answer: httpx.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == MEDIA_TYPE
    body: dict[str, object] = json.loads(answer.text)
    assert body["status"] == answer.status_code
    assert body.keys() <= {"type", "title", "status", "detail", "errors"}
    assert str(body["type"]).startswith("urn:telemetry-svc:problem:")
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/nowhere", 404, id="no such path"),
        pytest.param("GET", "/v1/body", 405, id="other method"),
        pytest.param("GET", "/v1/body/", 404, id="no redirect to the path without a slash"),
        pytest.param("GET", "/v1/raise/missing", 404, id="of our own"),
        pytest.param("GET", "/v1/raise/teapot", 418, id="of the framework, its detail unsaid"),
        pytest.param("GET", "/v1/raise/defect", 500, id="a defect"),
        pytest.param("GET", "/v1/raise/syntax", 500, id="a defect in SQL"),
        pytest.param("GET", "/v1/raise/refused", 503, id="database down"),
        pytest.param("GET", "/v1/raise/pool", 503, id="no connection free"),
        pytest.param("GET", "/v1/raise/interface", 503, id="session killed"),
        pytest.param("GET", "/v1/raise/operational", 503, id="connection lost"),
        pytest.param("GET", "/v1/raise/disk_full", 503, id="disk full"),
        pytest.param("GET", "/v1/raise/read_only", 503, id="read-only"),
        pytest.param("GET", "/v1/raise/shutting_down", 503, id="shutting down"),
        pytest.param("GET", "/v1/raise/missing?limit=1000000", 422, id="page of a million"),
    ],
)
async def test_every_error_is_a_problem(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    _problem(answer)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b'{"machine_id": "A", "hours_h": NaN}', id="NaN"),
        pytest.param(b'{"machine_id": "A", "hours_h": 1, "x": "\xff"}', id="not UTF-8 in an unknown field"),
        pytest.param(b'\xef\xbb\xbf{"machine_id": "A", "hours_h": 1}', id="byte order mark"),
        pytest.param(b"[" * 10_000, id="10 000 levels"),
        pytest.param(b"name=value", id="a form"),
    ],
)
async def test_a_body_that_is_not_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/body", content=body)
    assert answer.status_code == 400
    _problem(answer)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"machine_id": "A"}, "hours_h", id="missing"),
        pytest.param({"machine_id": "A", "hours_h": "249.9"}, "hours_h", id="text for a number"),
        pytest.param({"machine_id": "A", "hours_h": True}, "hours_h", id="a boolean is no number"),
        pytest.param({"machine_id": "A B", "hours_h": 1}, "machine_id", id="another alphabet"),
        pytest.param({"machine_id": "A\n", "hours_h": 1}, "machine_id", id="line break at the end"),
        pytest.param({"machine_id": "A" * 10_000, "hours_h": 1}, "machine_id", id="10 kB id"),
        pytest.param({"machine_id": "A", "hours_h": 1, "phones": [SECRET, SECRET[1:]]}, "phones.1", id="in a list"),
        pytest.param({"machine_id": "A", "hours_h": 1, "more": 1}, "more", id="unknown field"),
        pytest.param({"machine_id": "A", "hours_h": 1, "at": "2026-11-22 04:20:31Z"}, "at", id="blank in a time"),
        pytest.param({"machine_id": "A", "hours_h": 1, "at": "2026-11-22T04:20:31"}, "at", id="naive time"),
        pytest.param({"machine_id": "A", "hours_h": 1, "at": "2026-02-30T04:20:31Z"}, "at", id="no such day"),
        pytest.param({"machine_id": "A", "hours_h": 1, "at": 1_763_785_231}, "at", id="a number for a time"),
        pytest.param({"machine_id": "A", "hours_h": 1, "at": "2100-01-01T00:00:00Z"}, "at", id="another century"),
        pytest.param({"machine_id": "A", "hours_h": 1, "text": "a\x00b"}, "text", id="NUL"),
        pytest.param({"machine_id": "A", "hours_h": 1, "text": "\x1b[31mred"}, "text", id="ANSI"),
        pytest.param([1], "body", id="an array"),
        pytest.param("text", "body", id="a string"),
    ],
)
async def test_a_body_that_does_not_fit_is_422_with_the_field_named(
    client: httpx.AsyncClient, given: object, field: str
) -> None:
    answer = await client.post("/v1/body", content=json.dumps(given))
    assert answer.status_code == 422
    errors = _problem(answer)["errors"]
    assert isinstance(errors, list)
    assert [error["field"] for error in errors] == [field]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(rb'{"machine_id": "\ud800", "hours_h": 1}', "machine_id", id="half a pair"),
        pytest.param(rb'{"machine_id": "A", "hours_h": 1, "text": "x\udc00y"}', "text", id="the other half"),
        pytest.param(rb'{"machine_id": "A", "hours_h": 1, "phones": ["\ud800"]}', "phones.0", id="in a list"),
        pytest.param(rb'{"machine_id": "A", "hours_h": 1, "at": "\ud800"}', "at", id="for a time"),
        pytest.param(rb'{"machine_id": "A", "hours_h": 1, "more": "\ud800"}', "more", id="in an unknown field"),
        pytest.param(rb'{"machine_id": "A", "hours_h": 1, "\ud800": 1}', "body", id="as a name"),
        pytest.param(rb'["\ud800"]', "body", id="in an array"),
        pytest.param(b'{"machine_id": "A", "hours_h": 1e999}', "hours_h", id="beyond a double"),
        pytest.param(b'{"machine_id": "A", "hours_h": ' + b"9" * 5_000 + b"}", "hours_h", id="5 000 digits"),
    ],
)
async def test_what_json_allows_and_no_field_takes_is_422_with_the_field_named(
    client: httpx.AsyncClient, body: bytes, field: str
) -> None:
    answer = await client.post("/v1/body", content=body)
    assert answer.status_code == 422
    errors = _problem(answer)["errors"]
    assert isinstance(errors, list)
    assert [error["field"] for error in errors] == [field]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(rb'{"machine_id": "\ud800", "hours_h": NaN}', id="NaN"),
        pytest.param(rb'{"machine_id": "\ud800", "hours_h": 1', id="cut"),
        pytest.param(b'{"machine_id": "\\ud800", "x": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"x": "\\ud800", "y": ' + b"[" * 64 + b"]" * 64 + b"}", id="65 levels"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, id="10 000 levels"),
    ],
)
async def test_the_second_look_takes_nothing_that_is_not_json(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/body", content=body)
    assert answer.status_code == 400
    _problem(answer)


PLAIN = [
    pytest.param({"machine_id": "A"}, "hours_h: is required", id="missing"),
    pytest.param({"hours_h": "249.9"}, "hours_h: must be a number", id="text for a number"),
    pytest.param({"machine_id": 17}, "machine_id: must be a text", id="number for a text"),
    pytest.param({"machine_id": "A B"}, "machine_id: must be 1-64 of A-Z a-z 0-9 . _ -", id="another alphabet"),
    pytest.param({"phones": [SECRET[1:]]}, "phones.0: must be an E.164 number: + and 7 to 15 digits", id="phone"),
    pytest.param({"phones": SECRET}, "phones: must be an array", id="no array"),
    pytest.param({"more": 1}, "more: is no field that is known here", id="unknown field"),
    pytest.param(
        {"at": "2026-11-22"}, "at: must be an RFC 3339 time with an offset, like 2026-11-22T04:20:31Z", id="time"
    ),
    pytest.param({"text": "a\x00b"}, "text: holds a control character", id="NUL"),
    pytest.param({"text": ""}, "text: is too short: 1 or more characters", id="empty"),
    pytest.param({"text": "x" * 201}, "text: is too long: 200 characters at the most", id="too long"),
]


@pytest.mark.parametrize(("given", "told"), PLAIN)
async def test_it_is_told_in_plain_words_what_is_wrong_and_what_is_allowed(
    client: httpx.AsyncClient, given: dict[str, object], told: str
) -> None:
    whole = {"machine_id": "A", "hours_h": 1} if told != "hours_h: is required" else {}
    answer = await client.post("/v1/body", content=json.dumps(whole | given))
    assert _problem(answer)["detail"] == told


async def test_a_query_is_told_in_the_same_words(client: httpx.AsyncClient) -> None:
    for limit, told in (
        ("0", "must be at least 1"),
        ("1001", "must be at most 1000"),
        ("many", "must be a whole number"),
    ):
        answer = await client.get("/v1/raise/missing", params={"limit": limit})
        assert _problem(answer)["detail"] == f"limit: {told}"


def test_a_kind_of_fault_that_nobody_foresaw_speaks_no_foreign_words() -> None:
    assert words_of({"type": "tuple_type", "msg": "Input should be a valid tuple", "ctx": {"x": 1}}) == "does not fit"


async def test_a_good_body_is_taken_whatever_its_content_type(client: httpx.AsyncClient) -> None:
    content = '{"machine_id": "A", "hours_h": 249, "text": "长沙　王工"}'.encode()
    answer = await client.post("/v1/body", content=content, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200
    assert answer.json()["hours_h"] == 249.0
    assert answer.json()["text"] == "长沙　王工"


async def test_an_error_is_one_printable_line(client: httpx.AsyncClient) -> None:
    evil = "\r\nX-Forged: 1\x1b[2J\u2028" + "x" * 10_000
    answer = await client.post("/v1/body", content=json.dumps({"machine_id": "A", "hours_h": 1, evil: evil}))
    _problem(answer)
    assert "x-forged" not in answer.headers
    assert answer.text.isascii()
    assert answer.text.isprintable()
    assert len(answer.text) < 1_000


@pytest.mark.parametrize(
    ("what", "status"),
    [pytest.param("refused", 503, id="database down"), pytest.param("syntax", 500, id="a defect in SQL")],
)
async def test_a_key_that_cannot_be_looked_up_is_no_401(what: str, status: int) -> None:
    class Broken(KeysInMemory):
        async def find(self, key_id: str) -> KeyRecord | None:
            raise _raising()[what]

    keys = Broken()
    async with client_of(app_of(keys=keys)) as client:
        answer = await client.get("/metrics", headers=bearer(keys.add(Role.OPS)))
    assert answer.status_code == status
    _problem(answer)
