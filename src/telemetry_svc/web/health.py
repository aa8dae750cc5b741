"""Is the process alive, and may it be given work: named checks that the composition root hands in.

Live is not ready (design.md, decision 15): a dead database makes a role unready, and only a process that a restart
would mend is not live. A check that raises or hangs has failed; its exception's text stays inside.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from telemetry_svc.web.problems import Problem, documented

CHECK_TIMEOUT_S = 2.0

Check = Callable[[], Awaitable[str | None]]
"""None = well; else why not, in our own words."""


class HealthReport(BaseModel):
    """What was looked at, all of it well."""

    status: Literal["ok"] = "ok"
    checks: dict[str, str] = Field(examples=[{"database": "ok", "broker": "ok"}])


class Health:
    """Named checks of liveness and readiness, each run under a time-out at each request."""

    def __init__(self, *, live: Mapping[str, Check], ready: Mapping[str, Check]) -> None:
        self._live = dict(live)
        self._ready = dict(ready)

    async def live(self) -> dict[str, str]:
        """The outcome of each check of liveness: `ok` or why not."""
        return await _outcomes(self._live)

    async def ready(self) -> dict[str, str]:
        """The outcome of each check of readiness: `ok` or why not."""
        return await _outcomes(self._ready)


def create_router(health: Health) -> APIRouter:
    """`/livez` and `/readyz`: 200, or 503 with the checks that failed."""
    router = APIRouter(tags=["health"])
    failed: dict[int | str, dict[str, Any]] = {503: documented("Not well: `checks` says what")}

    @router.get("/livez", summary="Is the process alive", responses=failed)
    async def livez() -> HealthReport:
        return _report(await health.live())

    @router.get("/readyz", summary="May it be given work", responses=failed)
    async def readyz() -> HealthReport:
        return _report(await health.ready())

    return router


async def _outcomes(checks: Mapping[str, Check]) -> dict[str, str]:
    running = (asyncio.wait_for(check(), CHECK_TIMEOUT_S) for check in checks.values())
    results = await asyncio.gather(*running, return_exceptions=True)
    return {name: _outcome(result) for name, result in zip(checks, results, strict=True)}


def _outcome(result: str | BaseException | None) -> str:
    match result:
        case None:
            return "ok"
        case TimeoutError():
            return "no answer in time"
        case BaseException():
            return type(result).__name__
        case reason:
            return reason


def _report(checks: dict[str, str]) -> HealthReport:
    failing = [name for name, outcome in checks.items() if outcome != "ok"]
    if failing:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "not-well",
            f"not well: {', '.join(failing)}",
            headers={"Retry-After": "5"},
            extensions={"checks": checks},
        )
    return HealthReport(checks=checks)
