"""The document is complete: every operation is described, every body and answer has an example that fits."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from telemetry_svc.api.calls import CallParts
from telemetry_svc.api.calls import create_router as create_calls_router
from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.gateway import GatewayMetrics, create_router
from telemetry_svc.notify.claims import CallDesk
from telemetry_svc.notify.queues import Queues
from telemetry_svc.store.keys import Role
from tests.api.house import House, machine
from tests.gateway.test_pings_route import ListSink
from tests.notify.alerts import EDITION, QUEUE
from tests.web.doubles import app_of


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


@pytest.fixture
async def document(house: House) -> dict[str, Any]:
    answer = await house.ask("GET", "/openapi.json", role=Role.ADMIN)
    gateway = app_of([create_router(sink=ListSink(), metrics=GatewayMetrics(CollectorRegistry()))]).openapi()
    desk = CallDesk(Queues({EDITION: QUEUE}, EDITION), house.keyring)
    calls = app_of([create_calls_router(CallParts(house.engine, desk, house.keyring))]).openapi()
    api: dict[str, Any] = answer.json()
    for other in (gateway, calls):
        api["paths"] |= other["paths"]
        api["components"]["schemas"] |= other["components"]["schemas"]
    return api


async def test_every_operation_says_what_it_does_and_how_it_fails(document: dict[str, Any]) -> None:
    seen = dict(_operations(document))
    assert {"POST /v1/pings", "POST /v1/machines", "GET /v1/alerts/stream", "GET /readyz"} <= seen.keys()
    for name, operation in seen.items():
        assert operation["summary"], name
        assert operation["tags"], name
        if "/v1/" in name:
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), name
            assert "security" not in operation, name
        for status, response in operation["responses"].items():
            problem = list(response.get("content", {})) == ["application/problem+json"]
            assert problem == (status >= "400"), (name, status)
    assert seen["GET /livez"]["security"] == []
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


async def test_every_body_may_be_no_json_too_large_too_slow_or_compressed(document: dict[str, Any]) -> None:
    with_body = {name: one for name, one in _operations(document) if "requestBody" in one}
    assert {"POST /v1/calls/claim", "POST /v1/machines/{machine_id}/meter", "POST /v1/pings"} <= with_body.keys()
    assert len(with_body) == 11
    for name, operation in _operations(document):
        told = {"400", "408", "413", "415"} & operation["responses"].keys()
        assert told == ({"400", "408", "413", "415"} if name in with_body else set()), name


async def test_what_a_list_in_an_answer_looks_like_is_shown_whole(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, field in {
        "Accepted": "command_id",
        "Verdicts": "verdicts",
        "MachineResults": "results",
        "ClaimView": "tasks",
    }.items():
        [example] = schemas[name]["properties"][field]["examples"]
        whole = _resolved(schemas[name], schemas)
        Draft202012Validator(whole).validate({field: example})
        if field != "command_id":
            assert all(one.keys() == whole["properties"][field]["items"]["properties"].keys() for one in example)


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert references <= document["components"]["schemas"].keys()
    assert {"MachineFields", "ContactFields", "ProblemBody", "MachineDetail"} <= references


async def test_every_field_has_an_example_or_needs_none(document: dict[str, Any]) -> None:
    """A field needs none where it is described by its enum, its default, its parts, or a boolean."""
    enough = {"examples", "enum", "const", "default", "$ref", "items", "additionalProperties", "format"}
    missing = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        if enough.isdisjoint(shape)
        and shape.get("type") != "boolean"
        and all(enough.isdisjoint(part) and part.get("type") != "null" for part in shape.get("anyOf", [{}]))
    ]
    assert missing == []


def _resolved(shape: Any, schemas: dict[str, Any]) -> Any:
    match shape:
        case {"$ref": reference}:
            return _resolved(schemas[reference.rsplit("/", 1)[1]], schemas)
        case dict():
            return {name: _resolved(inner, schemas) for name, inner in shape.items()}
        case list():
            return [_resolved(inner, schemas) for inner in shape]
        case _:
            return shape


async def test_the_examples_of_bodies_fit_their_schemas_and_ours(document: dict[str, Any]) -> None:
    tried = 0
    for name, operation in _operations(document):
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media is None:
            continue
        schema = Draft202012Validator(_resolved(media["schema"], document["components"]["schemas"]))
        examples = [one["value"] for one in media.get("examples", {}).values()] + [media.get("example")]
        for example in filter(None, examples):
            schema.validate(example)
            tried += 1
            if name == "POST /v1/machines":
                for one in example if isinstance(example, list) else [example]:
                    MachineFields.model_validate(one)
    assert tried >= 4


async def test_what_is_answered_fits_what_is_documented(house: House, document: dict[str, Any]) -> None:
    await house.register(machine(delivered_on="2026-01-31", geofence=None))
    await house.raised("ZE215-000017", 1, kind="inspection", stage="due")
    for path, asked in (
        ("/v1/machines", "/v1/machines"),
        ("/v1/machines/{machine_id}", "/v1/machines/ZE215-000017"),
        ("/v1/alerts", "/v1/alerts"),
    ):
        shape = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = await house.get(asked)
        Draft202012Validator(_resolved(shape, document["components"]["schemas"])).validate(answer.json())
