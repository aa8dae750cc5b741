"""What people tell a machine's record: an inspection was done, a held meter reading is right or wrong.

Accepted is not applied: the rules decide, in the order of the machine's own records, and may refuse (design.md,
decision 4). `GET /v1/commands/{command_id}` tells what became of it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Literal
from uuid import UUID, uuid4

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.api import command_outbox
from telemetry_svc.api.machine_fields import centihours_of
from telemetry_svc.api.machines import MachineIdPath
from telemetry_svc.clock import Clock
from telemetry_svc.rules import Policy
from telemetry_svc.store import commands, machines
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.telemetry import EditionId, InspectionDone, MachineId, MeterDecision
from telemetry_svc.web import JsonRoute, body_problems, problem_responses
from telemetry_svc.web.fields import Hours, Instant, Note, StrictBody
from telemetry_svc.web.problems import field_problem, not_found, unavailable

AHEAD_AT_MOST = timedelta(minutes=5)


class InspectionFields(StrictBody):
    """An inspection (`milestone_h`) or a yearly check-up (`checkup_no`) that was done: exactly one of the two."""

    performed_at: Instant
    milestone_h: int | None = Field(default=None, ge=1, le=1_000_000, examples=[250])
    checkup_no: int | None = Field(default=None, ge=1, le=1_000)
    hour_meter_h: Hours | None = Field(default=None, description="kept, but no reading")


class MeterFields(StrictBody):
    """An operator's word on the hour-meter readings that are held."""

    decision: Literal["accept", "reject", "replaced"]
    note: Note | None = Field(default=None, examples=["ECU exchanged on site"])


class Accepted(BaseModel):
    """The command is on its way."""

    command_id: UUID = Field(examples=["7d3f0c52-9a41-4c7e-8f5a-2b6d1e9c4a10"])


class CommandView(BaseModel):
    """What became of a command. `reason` says why it was rejected."""

    command_id: UUID
    machine_id: str = Field(examples=["ZE215-000017"])
    kind: str = Field(examples=["inspection_done"])
    status: Literal["pending", "applied", "rejected"]
    reason: str | None = Field(examples=["the inspection at 250 h is already completed"])
    created_at: datetime


def create_router(engine: AsyncEngine, clock: Clock, policies: Mapping[EditionId, Policy]) -> APIRouter:
    """`POST …/inspections`, `POST …/meter`, `GET /v1/commands/{command_id}`."""
    router = APIRouter(tags=["commands"], route_class=JsonRoute)
    problems = body_problems(HTTPStatus.NOT_FOUND)

    @router.post(
        "/v1/machines/{machine_id}/inspections",
        summary="Report an inspection or check-up done",
        status_code=HTTPStatus.ACCEPTED,
        responses=problems,
    )
    async def inspection_done(machine_id: MachineIdPath, given: InspectionFields) -> Accepted:
        now = clock.now()
        async with engine.begin() as connection:
            row = await _machine(connection, machine_id)
            _check_inspection(given, row, policies, now)
            command = _inspection(row, given, now)
            await command_outbox.submit(connection, [command])
        return Accepted(command_id=command.command_id)

    @router.post(
        "/v1/machines/{machine_id}/meter",
        summary="Decide on held hour-meter readings",
        status_code=HTTPStatus.ACCEPTED,
        responses=problems,
    )
    async def meter_decision(machine_id: MachineIdPath, given: MeterFields) -> Accepted:
        async with engine.begin() as connection:
            row = await _machine(connection, machine_id)
            command = MeterDecision(uuid4(), row.machine.machine_id, given.decision, clock.now(), given.note)
            await command_outbox.submit(connection, [command])
        return Accepted(command_id=command.command_id)

    @router.get(
        "/v1/commands/{command_id}",
        summary="What became of a command",
        responses=problem_responses(HTTPStatus.NOT_FOUND),
    )
    async def show_command(command_id: UUID) -> CommandView:
        async with engine.connect() as connection:
            found = await commands.get(connection, command_id)
        if found is None:
            raise not_found("command")
        return CommandView.model_validate(
            {"command_id": found.id} | {name: getattr(found, name) for name in found.__struct_fields__ if name != "id"}
        )

    return router


async def _machine(connection: AsyncConnection, machine_id: str) -> MachineRow:
    row = await machines.get(connection, MachineId(machine_id))
    if row is None:
        raise not_found("machine")
    return row


def _check_inspection(
    given: InspectionFields, row: MachineRow, policies: Mapping[EditionId, Policy], now: datetime
) -> None:
    if (given.milestone_h is None) == (given.checkup_no is None):
        raise field_problem("milestone_h", "exactly one of milestone_h and checkup_no is needed")
    if given.performed_at > now + AHEAD_AT_MOST:
        raise field_problem("performed_at", "more than 5 min ahead")
    policy = policies.get(row.machine.policy_edition)
    if policy is None:
        raise unavailable("the machine's policy edition is not loaded here")
    if given.milestone_h is not None and given.milestone_h not in policy.inspections.milestones_h:
        raise field_problem("milestone_h", "the machine's policy edition knows no such inspection")


def _inspection(row: MachineRow, given: InspectionFields, now: datetime) -> InspectionDone:
    return InspectionDone(
        command_id=uuid4(),
        machine_id=row.machine.machine_id,
        performed_at=given.performed_at,
        received_at=now,
        milestone_h=given.milestone_h,
        checkup_no=given.checkup_no,
        hour_meter_ch=None if given.hour_meter_h is None else centihours_of(given.hour_meter_h),
    )
