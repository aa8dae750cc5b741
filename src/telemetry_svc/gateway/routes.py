"""`POST /v1/pings`: verdicts at once, and 202 only when the broker has the accepted ones (contract.md, HTTP)."""

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

from fastapi import APIRouter, Request
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import BaseModel, Field

from telemetry_svc.gateway.document import REQUEST_BODY
from telemetry_svc.gateway.judging import Judged, Status, judge, speaks_for_none
from telemetry_svc.gateway.sink import BrokerUnavailable, PingSink
from telemetry_svc.gateway.splitting import NotAnArrayError, NotJsonError, split_array, split_lines
from telemetry_svc.web import CurrentPrincipal, Problem, body_problems
from telemetry_svc.web.problems import field_problem, unavailable

MAX_PINGS = 1_000
NDJSON = "application/x-ndjson"


class GatewaySettings(Struct, frozen=True):
    """`max_in_flight` requests are worked on at a time (each holds up to 1 MiB); more are told to come again."""

    max_in_flight: int = 64


class GatewayMetrics:
    """What came in and what became of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pings = Counter(
            "gateway_pings_total", "Pings received, by verdict", ["status", "error_class"], registry=registry
        )
        self.in_flight = Gauge("gateway_requests_in_flight", "Ping requests being worked on", registry=registry)
        self.ack_seconds = Histogram(
            "gateway_broker_ack_seconds", "Time until the broker acknowledged a request's pings", registry=registry
        )
        self.unavailable = Counter(
            "gateway_broker_unavailable_total", "Requests the broker did not acknowledge", registry=registry
        )


class Verdict(BaseModel):
    """What became of one ping. An accepted one is durable; whether its machine is registered is seen by ingest."""

    index: int = Field(examples=[0])
    status: Status = Field(examples=["accepted"])
    error_class: str | None = Field(description="malformed, too_large or invalid, where rejected", examples=[None])


class Verdicts(BaseModel):
    """One verdict for each ping, in order. Blank lines of NDJSON are no pings."""

    verdicts: list[Verdict] = Field(
        examples=[
            [
                {"index": 0, "status": "accepted", "error_class": None},
                {"index": 1, "status": "rejected", "error_class": "invalid"},
            ]
        ]
    )


class Slots:
    """A bound on requests at work, without a queue: who finds none free is told so."""

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._taken = 0
        self._gauge = gauge

    @contextmanager
    def one(self) -> Iterator[None]:
        """Holds a slot. Raises `Problem` 503 where none is free."""
        if self._taken >= self._limit:
            raise unavailable("as many ping requests are at work as this process takes", retry_after_s=1)
        self._taken += 1
        self._gauge.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._gauge.set(self._taken)


def create_router(*, sink: PingSink, metrics: GatewayMetrics, settings: GatewaySettings | None = None) -> APIRouter:
    """`POST /v1/pings`."""
    router = APIRouter(tags=["pings"])
    slots = Slots((settings or GatewaySettings()).max_in_flight, metrics.in_flight)

    @router.post(
        "/v1/pings",
        summary="Send pings",
        status_code=HTTPStatus.ACCEPTED,
        responses=body_problems(),
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def post_pings(request: Request, principal: CurrentPrincipal) -> Verdicts:
        with slots.one():
            elements = _elements(request.headers.get("content-type", ""), await request.body())
            judged = [judge(element, principal) for element in elements]
            if not all(one.is_json for one in judged) and not _is_ndjson(request.headers.get("content-type", "")):
                raise _not_json()
            if speaks_for_none(judged, principal):
                raise Problem(HTTPStatus.FORBIDDEN, "other-machines", "the key may speak for none of these machines")
            await _deliver(sink, metrics, judged)
        _count(metrics, judged)
        return Verdicts(verdicts=[_verdict(index, one) for index, one in enumerate(judged)])

    return router


def _is_ndjson(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == NDJSON


def _elements(content_type: str, body: bytes) -> list[bytes]:
    try:
        elements = split_lines(body) if _is_ndjson(content_type) else split_array(body)
    except NotJsonError:
        raise _not_json() from None
    except NotAnArrayError:
        raise field_problem("body", "an array of pings is needed, or one a line as application/x-ndjson") from None
    if not elements:
        raise field_problem("body", "there is no ping")
    if len(elements) > MAX_PINGS:
        raise field_problem("body", f"at most {MAX_PINGS} pings")
    return elements


def _not_json() -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "not-json", "the body is not RFC 8259 JSON in UTF-8")


async def _deliver(sink: PingSink, metrics: GatewayMetrics, judged: Sequence[Judged]) -> None:
    records = [
        (one.machine_id.encode(), one.raw)
        for one in judged
        if one.status is Status.ACCEPTED and one.machine_id is not None
    ]
    if not records:
        return
    try:
        with metrics.ack_seconds.time():
            await sink.send(records)
    except BrokerUnavailable:
        metrics.unavailable.inc()
        raise unavailable("the broker did not acknowledge; send the same pings again, repeats are dropped") from None


def _count(metrics: GatewayMetrics, judged: Sequence[Judged]) -> None:
    for (status, error_class), number in Tally((one.status, one.error_class) for one in judged).items():
        metrics.pings.labels(status, error_class or "").inc(number)


def _verdict(index: int, one: Judged) -> Verdict:
    return Verdict(index=index, status=one.status, error_class=one.error_class)
