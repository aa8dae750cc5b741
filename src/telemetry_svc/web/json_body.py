"""Bodies are RFC 8259 JSON whatever their content type says, and anything else is 400 (contract.md, HTTP).

The framework's own reader takes NaN, and takes a body of another content type for something that does not fit. What
RFC 8259 allows and no field takes (half a surrogate pair, a number of 5 000 digits) is read all the same: the shape of
the body then refuses it by the field's name.
"""

import json
import math
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, NoReturn

import pydantic_core
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.types import Receive, Scope

from telemetry_svc.codec.strict_json import MAX_DEPTH, depth_of
from telemetry_svc.web.problems import Problem

_MOST_DIGITS = 400
"""More than any double has; Python's own `int` refuses 4 301."""


class _JsonRequest(Request):
    """A request whose body is JSON or a 400."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)["content-type"] = "application/json"
        super().__init__(scope, receive)

    async def json(self) -> Any:
        return parse(await self.body())


class JsonRoute(APIRoute):
    """`APIRouter(route_class=JsonRoute)`: for every route that declares a JSON body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_json(request: Request) -> Response:
            strict = _JsonRequest(request.scope, request.receive)
            if not await strict.body():
                raise _not_json()
            return await handle(strict)

        return handle_json


def parse(body: bytes) -> Any:
    """The JSON document, or `Problem` 400."""
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        return _second_look(body)


def _second_look(body: bytes) -> Any:
    """At what the fast parser refused."""
    try:
        text = body.decode()
        if depth_of(text) > MAX_DEPTH:
            raise _not_json()
        return json.loads(text, parse_int=_integer, parse_constant=_no_constant)
    except ValueError:
        raise _not_json() from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _not_json() -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "not-json", "the body is not RFC 8259 JSON in UTF-8")
