"""`/v1/alerts` and its stream: the decided facts, as the CloudEvents that go out on the topics."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from msgspec import Struct
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncEngine
from sse_starlette import EventSourceResponse, ServerSentEvent

from telemetry_svc.clock import pause
from telemetry_svc.events import MAINTENANCE_DUE_TYPE
from telemetry_svc.store import alerts
from telemetry_svc.store.alerts import AlertFilter
from telemetry_svc.store.cursor import Cursor, committed_end
from telemetry_svc.web import problem_responses
from telemetry_svc.web.fields import Name
from telemetry_svc.web.paging import DEFAULT_LIMIT, CursorText, Limit, cursor_from, next_cursor
from telemetry_svc.web.problems import OUTAGE_TYPES, outage, unavailable

STREAM_BATCH = 500


class StreamSettings(Struct, frozen=True):
    """How a stream is served: polled every `poll_s`, a comment every `heartbeat_s`, a client that takes nothing for
    `send_s` is let go."""

    clients: int = 50
    poll_s: float = 1.0
    heartbeat_s: float = 15.0
    send_s: float = 30.0


class AlertView(BaseModel):
    """An alert as CloudEvents 1.0; `data` as contract.md (Alerts) says for its type."""

    id: str = Field(examples=["e59ca73e-d80d-5236-a163-2bc15288643e"])
    source: str = Field(examples=["telemetry-svc/rules"])
    type: str = Field(examples=[MAINTENANCE_DUE_TYPE])
    subject: str = Field(description="the machine id", examples=["ZE215-000017"])
    time: str = Field(description="when the fact became true", examples=["2026-11-22T04:20:31Z"])
    partitionkey: str = Field(examples=["ZE215-000017"])
    specversion: str = Field(examples=["1.0"])
    datacontenttype: str = Field(examples=["application/json"])
    data: dict[str, Any] = Field(
        examples=[
            {
                "machine_id": "ZE215-000017",
                "kind": "inspection",
                "stage": "due",
                "milestone_h": 250,
                "true_hours_h": 250.0,
                "free_of_charge": True,
                "policy_edition": "zoomlion-2011-rev1",
                "policy_clause": "I1",
                "recorded_at": "2026-11-22T04:20:31Z",
            }
        ]
    )


class AlertPage(BaseModel):
    """Alerts in the order in which they were committed."""

    items: list[AlertView]
    next_cursor: str | None = Field(description="null: nothing more for now", examples=["AAAAAAAAA_QAAAAAAAAAKg"])
    last_cursor: str = Field(
        description="where this page ends: the stream goes on from here", examples=["AAAAAAAAA_QA"]
    )


def _filter(
    machine_id: Name | None = None,
    type_: Annotated[
        Literal["excavator.maintenance_due.v1", "excavator.anomaly.v1"] | None, Query(alias="type")
    ] = None,
    stage: Annotated[str | None, Query(max_length=40, examples=["due"])] = None,
    phase: Annotated[Literal["opened", "worsened", "cleared"] | None, Query()] = None,
    severity: Annotated[Literal["critical", "major", "general", "warning"] | None, Query()] = None,
) -> AlertFilter:
    return AlertFilter(machine_id, type_, stage, phase, severity)


Filter = Annotated[AlertFilter, Depends(_filter)]


def create_router(engine: AsyncEngine, settings: StreamSettings, stopping: asyncio.Event) -> APIRouter:
    """`GET /v1/alerts` and `GET /v1/alerts/stream`."""
    router = APIRouter(tags=["alerts"])
    streams = AlertStreams(engine, settings, stopping)

    @router.get("/v1/alerts", summary="List alerts", responses=problem_responses())
    async def list_alerts(which: Filter, cursor: CursorText = None, limit: Limit = DEFAULT_LIMIT) -> AlertPage:
        after = cursor_from(cursor)
        async with engine.connect() as connection:
            page = await alerts.page(connection, which, after, limit)
        last = page.rows[-1][0] if page.rows else after
        items = [AlertView.model_validate(body) for _, body in page.rows]
        following = next_cursor(last, len(items), limit)
        return AlertPage(items=items, next_cursor=following, last_cursor=last.text)

    @router.get(
        "/v1/alerts/stream",
        summary="Alerts as they are raised (server-sent events)",
        description="`Last-Event-ID` (or `cursor`) resumes without a gap; with neither it begins now.",
        response_class=EventSourceResponse,
        responses={**problem_responses(), 200: _STREAM_ANSWER},
    )
    async def stream_alerts(
        which: Filter, cursor: CursorText = None, last_event_id: Annotated[str | None, Header(max_length=64)] = None
    ) -> Response:
        return await streams.answer(which, last_event_id or cursor)

    return router


class AlertStreams:
    """Serves a bounded number of streams, each by polling committed prefixes (design.md, decision 17).

    All of them end when `stopping` is set: an open stream must not hold up the end of the process.
    """

    def __init__(self, engine: AsyncEngine, settings: StreamSettings, stopping: asyncio.Event) -> None:
        self._engine = engine
        self._settings = settings
        self._stopping = stopping
        self._open = 0

    async def answer(self, which: AlertFilter, after: str | None) -> Response:
        """The stream from a cursor on, or from now. Raises `Problem` 503 where there are too many."""
        if self._open >= self._settings.clients:
            raise unavailable("as many streams are open as this process serves")
        start = await self._now() if after is None else cursor_from(after, "Last-Event-ID")
        return EventSourceResponse(
            self.events(which, start), ping=self._settings.heartbeat_s, send_timeout=self._settings.send_s
        )

    async def events(self, which: AlertFilter, after: Cursor) -> AsyncIterator[ServerSentEvent]:
        """Every alert after a cursor; ends where the database goes away (the client comes again)."""
        if self._open >= self._settings.clients:
            return
        self._open += 1
        try:
            while not self._stopping.is_set():
                page = await self._page(which, after)
                if page is None:
                    return
                for cursor, body in page.rows:
                    yield ServerSentEvent(json.dumps(body, ensure_ascii=False), event=body["type"], id=cursor.text)
                after = page.end
                if len(page.rows) < STREAM_BATCH:
                    await pause(self._stopping, self._settings.poll_s)
        finally:
            self._open -= 1

    async def _now(self) -> Cursor:
        async with self._engine.connect() as connection:
            return await committed_end(connection)

    async def _page(self, which: AlertFilter, after: Cursor) -> alerts.AlertPage | None:
        try:
            async with self._engine.connect() as connection:
                return await alerts.page(connection, which, after, STREAM_BATCH)
        except OUTAGE_TYPES as error:
            if outage(error) is None:
                raise
            return None


_STREAM_ANSWER: dict[str, Any] = {
    "description": "Events with `id` (a cursor), `event` (the type) and `data` (the alert); comments keep it open",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'id: AAAAAAAAA_QAAAAAAAAAKg\nevent: excavator.maintenance_due.v1\ndata: {"id": "e5…"}\n\n',
        }
    },
}
