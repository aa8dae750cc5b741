"""`/v1/machines`: register and change (one, or up to 1 000 of which each is settled by itself), list, show."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError, WrapValidator
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.api.machine_views import MachineDetail, MachinePage, MachineView, detail_of, view_of
from telemetry_svc.api.registration import Desk, Outcome, Refused, Registered, register
from telemetry_svc.codec.ping import NAME
from telemetry_svc.rules import decode_state
from telemetry_svc.store import machines
from telemetry_svc.telemetry import MachineId
from telemetry_svc.web import JsonRoute, body_problems, problem_responses
from telemetry_svc.web.fields import Name
from telemetry_svc.web.paging import DEFAULT_LIMIT, CursorText, Limit, cursor_from, next_cursor
from telemetry_svc.web.problems import FieldError, does_not_fit, field_errors, field_problem, not_found

MAX_MACHINES = 1_000

MachineIdPath = Annotated[Name, Path(description="the machine's id")]


def _later(value: Any, _: Callable[[Any], Any]) -> Any:
    return value


GivenMachines = Annotated[MachineFields | list[MachineFields], WrapValidator(_later)]
"""Documented as what it must be, taken as it comes: the elements of an array are judged one by one."""


class MachineResult(BaseModel):
    """What became of one element of an array. `error` names the field, and is null where it went in."""

    index: int = Field(examples=[0])
    machine_id: str | None = Field(examples=["ZE215-000017"])
    status: int = Field(description="201 new, 200 known, 422 does not fit", examples=[201])
    error: str | None = Field(examples=["customer_phone: must be an E.164 number: + and 7 to 15 digits"])


class MachineResults(BaseModel):
    """One result for each element, in order."""

    results: list[MachineResult] = Field(
        examples=[
            [
                {"index": 0, "machine_id": "ZE215-000017", "status": 201, "error": None},
                {"index": 1, "machine_id": "ZE75-000003", "status": 422, "error": "tonnage_t: must be at most 1000"},
            ]
        ]
    )


def create_router(engine: AsyncEngine, desk: Desk) -> APIRouter:
    """`POST` and `GET /v1/machines`, `GET /v1/machines/{machine_id}`."""
    router = APIRouter(tags=["machines"], route_class=JsonRoute)

    @router.post(
        "/v1/machines",
        summary="Register or change machines",
        status_code=HTTPStatus.OK,
        responses={
            **body_problems(),
            200: {"description": "One machine, known before", "model": MachineView},
            201: {"description": "One machine, new", "model": MachineView},
            207: {"description": "An array: one result for each element", "model": MachineResults},
        },
    )
    async def post_machines(given: Annotated[GivenMachines, Body(openapi_examples=_EXAMPLES)]) -> Response:
        if isinstance(given, list):
            return await _register_many(engine, desk, given)
        return await _register_one(engine, desk, given)

    @router.get("/v1/machines", summary="List machines", responses=problem_responses())
    async def list_machines(cursor: CursorText = None, limit: Limit = DEFAULT_LIMIT) -> MachinePage:
        async with engine.connect() as connection:
            rows = await machines.page(connection, cursor_from(cursor), limit)
        last = rows[-1][0] if rows else None
        return MachinePage(items=[view_of(row) for _, row in rows], next_cursor=next_cursor(last, len(rows), limit))

    @router.get(
        "/v1/machines/{machine_id}", summary="Show a machine", responses=problem_responses(HTTPStatus.NOT_FOUND)
    )
    async def show_machine(machine_id: MachineIdPath) -> MachineDetail:
        async with engine.connect() as connection:
            row = await machines.get(connection, MachineId(machine_id))
            state = await machines.state_of(connection, MachineId(machine_id))
        if row is None:
            raise not_found("machine")
        return detail_of(row, None if state is None else decode_state(state))

    return router


async def _register_one(engine: AsyncEngine, desk: Desk, given: Any) -> Response:
    fields = _checked(given)
    if not isinstance(fields, MachineFields):
        raise does_not_fit(fields)
    async with engine.begin() as connection:
        [outcome] = await register(connection, desk, [fields])
    if isinstance(outcome, Refused):
        raise field_problem(outcome.field, outcome.message)
    content = view_of(outcome.row).model_dump(mode="json", by_alias=True)
    headers = {"Location": f"/v1/machines/{fields.machine_id}"}
    return JSONResponse(content, HTTPStatus.CREATED if outcome.new else HTTPStatus.OK, headers)


async def _register_many(engine: AsyncEngine, desk: Desk, given: list[Any]) -> Response:
    if len(given) > MAX_MACHINES:
        raise field_problem("body", f"an array has at most {MAX_MACHINES} machines")
    checked = [_checked(element) for element in given]
    fit = [fields for fields in checked if isinstance(fields, MachineFields)]
    async with engine.begin() as connection:
        outcomes = iter(await register(connection, desk, fit))
    results = [
        _settled(index, fields.machine_id, next(outcomes))
        if isinstance(fields, MachineFields)
        else MachineResult(index=index, machine_id=_id_in(given[index]), status=422, error=_line(fields[0]))
        for index, fields in enumerate(checked)
    ]
    return JSONResponse(MachineResults(results=results).model_dump(), HTTPStatus.MULTI_STATUS)


def _checked(given: Any) -> MachineFields | list[FieldError]:
    try:
        return MachineFields.model_validate(given)
    except ValidationError as error:
        return field_errors([{**one} for one in error.errors(include_url=False, include_input=False)])


def _settled(index: int, machine_id: str, outcome: Outcome) -> MachineResult:
    match outcome:
        case Registered(new=new):
            return MachineResult(index=index, machine_id=machine_id, status=201 if new else 200, error=None)
        case Refused(field=field, message=message):
            return MachineResult(index=index, machine_id=machine_id, status=422, error=f"{field}: {message}")


def _id_in(element: Any) -> str | None:
    """The machine id of an element that does not fit, if that at least does."""
    machine_id = element.get("machine_id") if isinstance(element, dict) else None
    return machine_id if isinstance(machine_id, str) and NAME.fullmatch(machine_id) else None


def _line(error: FieldError) -> str:
    return f"{error.field}: {error.message}"


_EXAMPLES: dict[str, Any] = {
    "one": {
        "summary": "One machine",
        "value": {
            "machine_id": "ZE215-000017",
            "tonnage_t": 21.5,
            "model": "ZE215E",
            "delivered_on": "2026-01-31",
            "expert_id": "EXP-007",
            "customer_id": "CUST-0042",
            "customer_name": "李女士",
            "customer_phone": "+8613800000000",
            "geofence": {"latitude_deg": 28.228, "longitude_deg": 112.939, "radius_m": 800},
            "permitted_hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "06:00", "to": "22:00"}],
        },
    },
    "change": {
        "summary": "A known machine gets a number; the rest stays",
        "value": {"machine_id": "ZE215-000017", "customer_phone": "+8613900000000"},
    },
    "many": {
        "summary": "Several at once",
        "value": [{"machine_id": "ZE215-000017", "tonnage_t": 21.5}, {"machine_id": "ZE75-000003", "tonnage_t": 7.5}],
    },
}
