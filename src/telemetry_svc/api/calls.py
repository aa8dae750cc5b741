"""The call queue over HTTP: the list, the claim and what follows a claim (contract.md, Calls).

The routes say how it is asked and answered; what happens is the desk's. Only the answer of a claim tells whom to call:
names and numbers are read, and audited, at the very end, for leases that hold.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.api.call_models import (
    CallPageView,
    CallView,
    ClaimBody,
    ClaimedCallView,
    ClaimOneBody,
    ClaimView,
    CustomerView,
    LeasedCallView,
    OutcomeBody,
    RenewBody,
    TokenBody,
    leased_data,
    told_of,
)
from telemetry_svc.api.call_requests import Asked, AskedNow, taken, task_id_of
from telemetry_svc.calls import CallState
from telemetry_svc.notify.claims import CallDesk
from telemetry_svc.privacy import Keyring
from telemetry_svc.store import call_claims, call_list, call_tasks, contacts
from telemetry_svc.store.call_list import CallFilter
from telemetry_svc.store.contacts import Contact, Reader
from telemetry_svc.telemetry import MachineId
from telemetry_svc.web import JsonRoute, body_problems, problem_responses
from telemetry_svc.web.fields import Name
from telemetry_svc.web.paging import DEFAULT_LIMIT, CursorText, Limit, cursor_from, next_cursor
from telemetry_svc.web.problems import not_found

_CONFLICT = body_problems(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
_NO_ROOM = body_problems(HTTPStatus.TOO_MANY_REQUESTS)


class CallParts(Struct, frozen=True):
    """What the routes need."""

    engine: AsyncEngine
    desk: CallDesk
    keyring: Keyring


def create_router(parts: CallParts) -> APIRouter:
    """All routes of call tasks."""
    router = APIRouter(prefix="/v1/calls", tags=["calls"], route_class=JsonRoute)
    _add_list(router, parts)
    _add_claims(router, parts)
    _add_renewal(router, parts)
    _add_ends(router, parts)
    return router


def _add_list(router: APIRouter, parts: CallParts) -> None:
    @router.get("", summary="Call tasks, in the order in which they were opened", responses=problem_responses())
    async def list_calls(
        state: Annotated[list[CallState] | None, Query(description="may be repeated")] = None,
        machine_id: Name | None = None,
        cursor: CursorText = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> CallPageView:
        which = CallFilter(frozenset(state or ()), None if machine_id is None else MachineId(machine_id))
        async with parts.engine.connect() as connection:
            rows = await call_list.page(connection, which, cursor_from(cursor), limit)
        last = rows[-1][0] if rows else None
        return CallPageView(
            items=[CallView.of(task) for _, task in rows], next_cursor=next_cursor(last, len(rows), limit)
        )

    @router.get("/{task_id}", summary="One call task", responses=problem_responses(HTTPStatus.NOT_FOUND))
    async def get_call(task_id: str) -> CallView:
        async with parts.engine.connect() as connection:
            task = await call_tasks.get(connection, task_id_of(task_id))
        if task is None:
            raise not_found("call task")
        return CallView.of(task)


def _add_claims(router: APIRouter, parts: CallParts) -> None:
    @router.post("/claim", summary="Claim the next calls", responses=_NO_ROOM)
    async def claim(body: ClaimBody, asked: AskedNow) -> ClaimView:
        claimant = asked.claimant(body.expert_id)
        async with parts.engine.begin() as connection:

            async def work() -> ClaimView:
                leases = taken(await parts.desk.claim(connection, claimant, body.max, body.lease_s))
                return ClaimView(tasks=[ClaimedCallView.model_validate(leased_data(lease)) for lease in leases])

            answer = await asked.once(connection, body, ClaimView, work)
            return ClaimView(tasks=await _with_customers(connection, parts, asked, answer.tasks))

    @router.post("/{task_id}/claim", summary="Claim this call", responses=_CONFLICT | _NO_ROOM)
    async def claim_task(task_id: str, body: ClaimOneBody, asked: AskedNow) -> ClaimedCallView:
        claimant = asked.claimant(body.expert_id)
        async with parts.engine.begin() as connection:

            async def work() -> ClaimedCallView:
                lease = await parts.desk.claim_task(connection, claimant, task_id_of(task_id), body.lease_s)
                return ClaimedCallView.model_validate(leased_data(taken(lease)))

            answer = await asked.once(connection, body, ClaimedCallView, work)
            [task] = await _with_customers(connection, parts, asked, [answer])
            return task


def _add_renewal(router: APIRouter, parts: CallParts) -> None:
    @router.post("/{task_id}/renew", summary="Hold on to a call", responses=_CONFLICT | _NO_ROOM)
    async def renew(task_id: str, body: RenewBody, asked: AskedNow) -> LeasedCallView:
        holder = asked.holder(body.lease_token)
        async with parts.engine.begin() as connection:

            async def work() -> LeasedCallView:
                lease = await parts.desk.renew(connection, task_id_of(task_id), holder, body.lease_s)
                return LeasedCallView.model_validate(leased_data(taken(lease)))

            return await asked.once(connection, body, LeasedCallView, work)


def _add_ends(router: APIRouter, parts: CallParts) -> None:
    desk = parts.desk

    @router.post("/{task_id}/release", summary="Give a call back", responses=_CONFLICT)
    async def release(task_id: str, body: TokenBody, asked: AskedNow) -> CallView:
        holder = asked.holder(body.lease_token)
        async with parts.engine.begin() as connection:

            async def work() -> CallView:
                return CallView.of(taken(await desk.release(connection, task_id_of(task_id), holder)))

            return await asked.once(connection, body, CallView, work)

    @router.post("/{task_id}/reject", summary="Give a call back, to be offered no more", responses=_CONFLICT)
    async def reject(task_id: str, body: TokenBody, asked: AskedNow) -> CallView:
        holder = asked.holder(body.lease_token)
        async with parts.engine.begin() as connection:

            async def work() -> CallView:
                return CallView.of(taken(await desk.reject(connection, task_id_of(task_id), holder)))

            return await asked.once(connection, body, CallView, work)

    @router.post("/{task_id}/outcome", summary="Say what became of a call", responses=_CONFLICT)
    async def outcome(task_id: str, body: OutcomeBody, asked: AskedNow) -> CallView:
        holder, told = asked.holder(body.lease_token), told_of(body)
        async with parts.engine.begin() as connection:

            async def work() -> CallView:
                settled = await desk.settle(connection, task_id_of(task_id), holder, told, body.callback_at)
                return CallView.of(taken(settled))

            return await asked.once(connection, body, CallView, work)


async def _with_customers(
    connection: AsyncConnection, parts: CallParts, asked: Asked, tasks: Sequence[ClaimedCallView]
) -> list[ClaimedCallView]:
    """The tasks with whom to call, for those whose lease still holds (a repeat may come later); audited."""
    held = await call_claims.still_held(connection, {task.task_id: task.lease_token for task in tasks})
    machine_ids = [MachineId(task.machine_id) for task in tasks if task.task_id in held]
    reader = Reader(asked.principal.name, "claimed a call")
    people = await contacts.open_for(connection, parts.keyring, machine_ids, reader)
    customers = {
        task.task_id: _customer(people.get(MachineId(task.machine_id), []), held[task.task_id])
        for task in tasks
        if task.task_id in held
    }
    return [task.model_copy(update={"customer": customers.get(task.task_id)}) for task in tasks]


def _customer(people: Sequence[Contact], wrong_numbers: int) -> CustomerView | None:
    may_be_called = [person for person in people if person.phone is not None]
    if not may_be_called:
        return None
    person = may_be_called[min(wrong_numbers, len(may_be_called) - 1)]
    return CustomerView(name=person.name, phone=person.phone)
