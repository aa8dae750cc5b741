"""What the routes of calls share: who asks, a repeat answered as before, and refusals as problems.

A repeat (`Idempotency-Key`) is answered from what was answered; the work, its answer and the key are one transaction.
"""

import hashlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, TypeVar, assert_never
from uuid import UUID

from fastapi import Depends, Header, Request
from msgspec import Struct
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import ExpertId, TaskId
from telemetry_svc.notify.claims import BadField, Holder, Refusal
from telemetry_svc.store import call_answers
from telemetry_svc.store.call_answers import Repeat, RequestKey
from telemetry_svc.store.call_claims import Claimant
from telemetry_svc.web import CurrentPrincipal, Principal, Problem
from telemetry_svc.web.problems import field_problem, not_found, unavailable

Work = Callable[[], Awaitable[BaseModel]]
View = TypeVar("View", bound=BaseModel)
Given = TypeVar("Given")

_Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, description="makes a repeat safe for 24 h"),
]


class Asked(Struct, frozen=True):
    """One request: who asks, for what path, and the key that makes a repeat safe."""

    principal: Principal
    path: str
    idempotency_key: str | None

    def claimant(self, expert_id: str | None) -> Claimant:
        """Who claims. Raises 422 where nobody is named, 403 where the key speaks for another."""
        named = expert_id or self.principal.expert_id
        if named is None:
            raise field_problem("expert_id", "required for a key that is bound to no expert")
        if self.principal.expert_id not in {None, named}:
            raise _forbidden()
        return Claimant(ExpertId(named))

    def holder(self, token: str) -> Holder:
        """Who comes with a token."""
        bound_to = self.principal.expert_id
        return Holder(token, None if bound_to is None else ExpertId(bound_to))

    async def once(self, connection: AsyncConnection, body: BaseModel, view: type[View], work: Work) -> View:
        """The answer of the work or, of a repeat, the answer that was given. Raises 422: same key, other request."""
        if self.idempotency_key is None:
            return view.model_validate(await work(), from_attributes=True)
        asked = f"{self.path}\n{body.model_dump_json()}".encode()
        key = RequestKey(self.principal.key_id, self.idempotency_key, hashlib.sha256(asked).digest())
        begun = await call_answers.begin(connection, key)
        if begun is Repeat.OTHER_REQUEST:
            raise field_problem("Idempotency-Key", "came before with another request")
        if isinstance(begun, dict):
            return view.model_validate(begun)
        answer = (await work()).model_dump(mode="json")
        await call_answers.keep(connection, key, answer)
        return view.model_validate(answer)


def _asked(request: Request, principal: CurrentPrincipal, idempotency_key: _Key = None) -> Asked:
    return Asked(principal, request.url.path, idempotency_key)


AskedNow = Annotated[Asked, Depends(_asked)]


def taken(given: Given | Refusal | BadField) -> Given:
    """What the desk gave, or its refusal as a `Problem`."""
    if isinstance(given, Refusal):
        raise _problem(given)
    if isinstance(given, BadField):
        raise field_problem(given.field, given.message)
    return given


def task_id_of(text: str) -> TaskId:
    """The id in a path. Raises 404: what is no id is no task."""
    try:
        return TaskId(UUID(text))
    except ValueError:
        raise not_found("call task") from None


def _problem(refusal: Refusal) -> Problem:
    match refusal:
        case Refusal.UNKNOWN_TASK:
            return not_found("call task")
        case Refusal.STALE_TOKEN:
            detail = "the token no longer holds: the task was settled, given back or claimed again"
            return Problem(HTTPStatus.CONFLICT, "stale-token", detail)
        case Refusal.NOT_OFFERED:
            return Problem(HTTPStatus.CONFLICT, "not-offered", "the task is not offered to this expert now")
        case Refusal.NO_ROOM:
            return Problem(HTTPStatus.TOO_MANY_REQUESTS, "no-room", "the expert holds as many calls as he may")
        case Refusal.NOT_YOURS:
            return _forbidden()
        case Refusal.CLOSED:
            return unavailable("no call is given out: the database was restored and not yet recovered")
        case _:
            assert_never(refusal)


def _forbidden() -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, "forbidden", "this key speaks for another expert")
