"""A limit on every body: its size while it streams in, the time it may take, and no compression.

A body without a length (chunked) is counted as it comes; nothing is decompressed, so a small bomb stays small.
"""

import asyncio
from http import HTTPStatus

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry_svc.web.problems import Problem, answer

MIB = 1024 * 1024
_CLOSE = {"Connection": "close"}


class Limits(Struct, frozen=True):
    """What a request may bring. `body_bytes`: contract.md says 1 MiB; `body_s`: for the whole of it."""

    body_bytes: int = MIB
    body_s: float = 20.0


class LimitedBodies:
    """Answers 415 and 413 before the app is asked; 413 and 408 as the body streams in."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refused(Headers(scope=scope))
        if refused is not None:
            await answer(refused)(scope, receive, send)
            return
        await self._app(scope, _CountedReceive(receive, self._limits), send)

    def _refused(self, headers: Headers) -> Problem | None:
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            return Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "compressed",
                "compressed bodies are not taken; send it without Content-Encoding",
                headers=_CLOSE,
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._limits.body_bytes:
            return _too_large(self._limits)
        return None


class _CountedReceive:
    """`receive` that ends with a `Problem` when the body is too large or too slow."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._seen_bytes = 0
        self._complete = False
        self._deadline: float | None = None

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        message = await self._in_time()
        self._seen_bytes += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._seen_bytes > self._limits.body_bytes:
            raise _too_large(self._limits)
        return message

    async def _in_time(self) -> Message:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._limits.body_s
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            raise Problem(
                HTTPStatus.REQUEST_TIMEOUT, "too-slow", "the body did not arrive in time", headers=_CLOSE
            ) from None


def _too_large(limits: Limits) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-large",
        f"a body has at most {limits.body_bytes} bytes",
        headers=_CLOSE,
    )
