"""Every error over HTTP is an `application/problem+json` (RFC 9457) that names the field and repeats no input.

What a caller sent may hold a phone number, a terminal escape or ten kilobytes: answers carry field names (cut, made
printable) and our own words, never values and never a stack trace.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from telemetry_svc.wording import words_of

_LOG = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:telemetry-svc:problem:"
RETRY_AFTER_S = 5
CLIENT_GONE = 499
"""No status of HTTP's own, for nobody gets it: as proxies write it down, for `/metrics`."""
OUTAGE_TYPES: tuple[type[Exception], ...] = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)
"""What a database that is away makes asyncpg and SQLAlchemy raise; `outage` tells it from a defect."""
_FIELD_LIMIT = 120
_MESSAGE_LIMIT = 300
_SOURCES = frozenset({"body", "query", "path", "header"})
_UNAVAILABLE_SQLSTATES = ("08", "53", "57P", "25006", "58")
"""Connection lost, out of disk or connections, shutting down, read-only, an IO error of the server: ours to mend."""


class FieldError(BaseModel):
    """One field that does not fit."""

    field: str = Field(examples=["contacts.0.phone"])
    message: str = Field(examples=["must be an E.164 number: + and 7 to 15 digits"])


class ProblemBody(BaseModel):
    """An error as RFC 9457 problem details."""

    type: str = Field(examples=["urn:telemetry-svc:problem:does-not-fit"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["tonnage_t: required for a new machine"])
    errors: list[FieldError] = Field(default=[], description="the fields that do not fit, where it is about fields")


class Problem(HTTPException):
    """An error to be answered. `slug` tells machines what happened, `detail` people; both are our own words."""

    def __init__(
        self,
        status: HTTPStatus,
        slug: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=headers)
        self.slug = slug
        self.errors = list(errors)
        self.extensions = dict(extensions or {})


def does_not_fit(errors: Sequence[FieldError]) -> Problem:
    """422 with at least one field named; `body` stands for all of it."""
    detail = f"{errors[0].field}: {errors[0].message}"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "does-not-fit", detail, errors=errors)


def field_problem(field: str, message: str) -> Problem:
    """422 about one field."""
    return does_not_fit([FieldError(field=field, message=message)])


def not_found(what: str) -> Problem:
    """404; `what` is our own noun, never the id that was asked for."""
    return Problem(HTTPStatus.NOT_FOUND, "not-found", f"there is no such {what}")


def unavailable(detail: str, *, retry_after_s: int = RETRY_AFTER_S) -> Problem:
    """503: nothing is wrong with the request, it may come again."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers={"Retry-After": str(retry_after_s)})


def field_errors(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """pydantic's errors with printable field names, in our words and without the input."""
    return [
        FieldError(field=_field_name(error["loc"]), message=printable(words_of(error), _MESSAGE_LIMIT))
        for error in errors
    ]


def printable(text: str, limit: int) -> str:
    """At most `limit` characters, each of them printable: no line break and no escape gets through."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


def problem_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that asks for a key: these problems beside the ones that every such route has."""
    everywhere = (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
    return {int(status): documented(status.phrase) for status in (*everywhere, *statuses)}


def body_problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that takes a JSON body: also what the readers and the limits of every body answer."""
    every_body = (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    )
    return problem_responses(*every_body, *statuses)


def documented(description: str) -> dict[str, Any]:
    """One problem for `responses=`; the app's document shows it under its own media type only."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    return {"description": description, "model": ProblemBody, "content": {MEDIA_TYPE: {"schema": schema}}}


def answer(problem: Problem) -> Response:
    """The problem as a response."""
    status = HTTPStatus(problem.status_code)
    body: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{problem.slug}",
        "title": status.phrase,
        "status": int(status),
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [error.model_dump() for error in problem.errors]
    content = json.dumps(body | problem.extensions)
    return Response(content, status_code=status, headers=problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes every error of the app and of its framework a problem."""
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    for error_type in OUTAGE_TYPES:
        app.add_exception_handler(error_type, _on_outage)
    app.add_exception_handler(ClientDisconnect, _on_hang_up)
    app.add_exception_handler(Exception, _on_defect)


def outage(error: Exception) -> Problem | None:
    """503 where the database cannot be had or takes nothing at the moment; None where the error is a defect."""
    if isinstance(error, DBAPIError) and not _is_outage(error):
        return None
    _LOG.warning("database_unavailable", error=type(error).__name__)
    return unavailable("the database takes nothing at the moment")


def _field_name(location: Sequence[int | str]) -> str:
    parts = location[1:] if location and location[0] in _SOURCES else location
    return printable(".".join(str(part) for part in parts), _FIELD_LIMIT) or "body"


async def _on_http_error(_: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return answer(error)
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - it is registered for these
    status = HTTPStatus(error.status_code)
    slug = status.phrase.lower().replace(" ", "-")
    return answer(Problem(status, slug, status.description or status.phrase, headers=error.headers))


async def _on_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for these
    return answer(does_not_fit(field_errors(error.errors())))


async def _on_outage(_: Request, error: Exception) -> Response:
    problem = outage(error)
    if problem is None:
        raise error
    return answer(problem)


async def _on_hang_up(_request: Request, _error: Exception) -> Response:
    """A client that is gone in the midst of its body: no defect of ours, and nobody gets the answer."""
    return Response(status_code=CLIENT_GONE)


async def _on_defect(_request: Request, _error: Exception) -> Response:
    return answer(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", "an error of ours; it is in the log"))


def _is_outage(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or ""
    return (
        error.connection_invalidated
        or isinstance(error, InterfaceError | OperationalError)
        or state.startswith(_UNAVAILABLE_SQLSTATES)
    )
