"""The door: nothing is reached that the role matrix does not name, and nobody passes before the body is read.

An ASGI layer of its own, before routing and body parsing, so that a stranger learns nothing from a parse error and a
forgotten dependency opens no route.
"""

import ipaddress
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from telemetry_svc.web.auth import Authenticator
from telemetry_svc.web.problems import OUTAGE_TYPES, Problem, answer, outage
from telemetry_svc.web.roles import Access, may

ROUTE_KEY = "telemetry_svc.route"
"""In the scope: the path template of the row that matched, for metrics."""


class Guard:
    """Admits by the matrix: 404 for what it does not name, 405, 401, 403, else the app with `state.principal`."""

    def __init__(self, app: ASGIApp, matrix: Sequence[Access], authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator
        self._rows = [(compile_path(access.path)[0], access) for access in matrix]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = await self._refused(scope)
            if refused is not None:
                await answer(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refused(self, scope: Scope) -> Problem | None:
        try:
            await self._admit(scope)
        except Problem as problem:
            return problem
        except OUTAGE_TYPES as error:
            refused = outage(error)
            if refused is None:
                raise
            return refused
        return None

    async def _admit(self, scope: Scope) -> None:
        access = self._row(scope)
        scope[ROUTE_KEY] = access.path
        if access.open_to_all or (access.open_on_loopback and is_loopback(scope)):
            return
        principal = await self._authenticator.principal(Headers(scope=scope).get("authorization"))
        if not may(access, principal.role):
            raise Problem(HTTPStatus.FORBIDDEN, "forbidden", f"a key of role {principal.role} may not do this")
        scope.setdefault("state", {})["principal"] = principal

    def _row(self, scope: Scope) -> Access:
        rows = [access for pattern, access in self._rows if pattern.match(scope["path"])]
        for access in rows:
            if access.method == scope["method"]:
                return access
        if not rows:
            raise Problem(HTTPStatus.NOT_FOUND, "not-found", "there is nothing at this path")
        allowed = ", ".join(sorted({access.method for access in rows}))
        raise Problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method-not-allowed",
            f"this path takes {allowed}",
            headers={"Allow": allowed},
        )


def is_loopback(scope: Scope) -> bool:
    """Whether the caller sits on this machine; not where a proxy speaks for somebody else."""
    client = scope.get("client")
    headers = Headers(scope=scope)
    if client is None or "forwarded" in headers or "x-forwarded-for" in headers:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
