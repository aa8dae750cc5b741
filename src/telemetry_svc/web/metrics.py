"""How many requests, how they ended and how long they took; and `/metrics` itself.

Labels are the route's template and the status, never a path as it came: a label per id would fill the memory.
"""

import time
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry_svc.web.guard import ROUTE_KEY


class HttpMetrics:
    """The counters of one process, in the registry that the composition root hands in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "http_requests_total", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds", "Time to the end of the answer", ["route"], registry=registry
        )


class Measured:
    """Counts every request at the route that it reached."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        started_s = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._note(scope, status, time.perf_counter() - started_s)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get(ROUTE_KEY)
        method = scope["method"] if route else "other"
        self._metrics.requests.labels(method, route or "unmatched", status).inc()
        self._metrics.seconds.labels(route or "unmatched").observe(seconds)


def create_router(registry: CollectorRegistry) -> APIRouter:
    """`/metrics` in Prometheus' text format."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    return router
