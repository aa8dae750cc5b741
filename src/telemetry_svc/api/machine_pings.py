"""`GET /v1/machines/{machine_id}/pings`: history, ping by ping or in buckets; never more than a page of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.api.machines import MachineIdPath
from telemetry_svc.clock import Clock
from telemetry_svc.store import machines, ping_pages
from telemetry_svc.store.cursor import Cursor
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.store.ping_pages import BucketRow, PingRow, Span
from telemetry_svc.telemetry import MachineId
from telemetry_svc.units import hours_from
from telemetry_svc.web import problem_responses
from telemetry_svc.web.fields import Instant
from telemetry_svc.web.paging import DEFAULT_LIMIT, CursorText, Limit, cursor_from, next_cursor
from telemetry_svc.web.problems import field_problem, not_found

Bucket = Literal["5m", "15m", "1h", "6h", "1d"]
_WIDTHS = {
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
}
"""A day is one of the machine's own time zone."""

DEFAULT_SPAN = timedelta(days=1)
LONGEST_SPAN = timedelta(days=31)
LONGEST_IN_BUCKETS = timedelta(days=400)


class PingView(BaseModel):
    """A ping as it was stored, fields as in Ping v1; `future`: dated more than 5 min ahead, decides nothing."""

    recorded_at: datetime = Field(examples=["2026-11-22T04:20:31Z"])
    received_at: datetime = Field(description="the broker's append time", examples=["2026-11-22T04:20:33Z"])
    future: bool
    hour_meter_h: float | None = Field(examples=[249.9])
    position: dict[str, float | None] | None = Field(examples=[{"latitude_deg": 28.228, "longitude_deg": 112.939}])
    faults: list[dict[str, Any]] | None = Field(examples=[[{"spn": 110, "fmi": 0, "lamp": "red_stop"}]])
    sensors: dict[str, float | None] | None = Field(examples=[{"coolant_temperature_c": 88.5}])
    engine_running: bool | None
    device_id: str | None = Field(examples=["868120241234567"])
    sequence: int | None = Field(examples=[81234])


class BucketView(BaseModel):
    """What was recorded from `begin` to the next bucket; hours as the meter showed them, null where none was sent."""

    begin: datetime = Field(examples=["2026-11-22T04:00:00Z"])
    pings: int = Field(examples=[60])
    min_hour_meter_h: float | None = Field(examples=[249.1])
    max_hour_meter_h: float | None = Field(examples=[250.0])
    last_hour_meter_h: float | None = Field(examples=[250.0])


class PingPage(BaseModel):
    """Pings in the order in which they were stored; with `bucket`, buckets that hold any, in order of time."""

    items: list[PingView] | list[BucketView]
    next_cursor: str | None = Field(description="null: nothing more for now", examples=["AAAAAAAAA_QAAAAAAAAAKg"])


Begin = Annotated[Instant | None, Query(alias="from", description="recorded then or later; default: a day before `to`")]
End = Annotated[Instant | None, Query(alias="to", description="recorded before; default: now")]
Width = Annotated[Bucket | None, Query(description="sum up; `1d` is a day in the machine's own time zone")]


def create_router(engine: AsyncEngine, clock: Clock) -> APIRouter:
    """`GET /v1/machines/{machine_id}/pings`."""
    router = APIRouter(tags=["machines"])

    @router.get(
        "/v1/machines/{machine_id}/pings",
        summary="A machine's pings",
        description="At most 31 days at once, 400 in buckets.",
        responses=problem_responses(HTTPStatus.NOT_FOUND),
    )
    async def pings(
        machine_id: MachineIdPath,
        begin: Begin = None,
        end: End = None,
        bucket: Width = None,
        cursor: CursorText = None,
        limit: Limit = DEFAULT_LIMIT,
    ) -> PingPage:
        span = _span(machine_id, begin, end or clock.now(), LONGEST_IN_BUCKETS if bucket else LONGEST_SPAN)
        after = cursor_from(cursor)
        async with engine.connect() as connection:
            row = await machines.get(connection, span.machine_id)
            if row is None:
                raise not_found("machine")
            if bucket is None:
                return _page(await ping_pages.page(connection, span, after, limit), limit)
            return await _bucket_page(connection, row, span, bucket, None if cursor is None else after, limit)

    return router


def _span(machine_id: str, begin: datetime | None, end: datetime, longest: timedelta) -> Span:
    first = end - DEFAULT_SPAN if begin is None else begin
    if first >= end:
        raise field_problem("from", "not before `to`")
    if end - first > longest:
        raise field_problem("from", f"more than {longest.days} days before `to`")
    return Span(MachineId(machine_id), first, end)


def _page(rows: Sequence[tuple[Cursor, PingRow]], limit: int) -> PingPage:
    last = rows[-1][0] if rows else None
    return PingPage(items=[_view(row) for _, row in rows], next_cursor=next_cursor(last, len(rows), limit))


async def _bucket_page(
    connection: AsyncConnection, machine: MachineRow, span: Span, bucket: Bucket, after: Cursor | None, limit: int
) -> PingPage:
    width = _WIDTHS.get(bucket, machine.machine.time_zone)
    last = None if after is None else datetime.fromtimestamp(_seconds(after), UTC)
    rows = await ping_pages.buckets(connection, span, width, last, limit)
    end = Cursor(int(rows[-1].begin.timestamp()), 0) if rows else None
    return PingPage(items=[_bucket_view(row) for row in rows], next_cursor=next_cursor(end, len(rows), limit))


def _seconds(cursor: Cursor) -> int:
    """When the last bucket began, in seconds since 1970. Raises `Problem` 422 for a cursor of another list."""
    if cursor.xid > datetime.max.replace(tzinfo=UTC).timestamp():
        raise field_problem("cursor", "this is no cursor of ours")
    return cursor.xid


def _view(row: PingRow) -> PingView:
    ping = row.ping
    fields = msgspec.to_builtins(ping)
    return PingView(
        recorded_at=ping.recorded_at,
        received_at=row.received_at,
        future=row.future,
        hour_meter_h=_hours(ping.hour_meter_ch),
        **{name: fields[name] for name in ("position", "faults", "sensors", "engine_running", "device_id", "sequence")},
    )


def _bucket_view(row: BucketRow) -> BucketView:
    return BucketView(
        begin=row.begin,
        pings=row.pings,
        min_hour_meter_h=_hours(row.min_ch),
        max_hour_meter_h=_hours(row.max_ch),
        last_hour_meter_h=_hours(row.last_ch),
    )


def _hours(value_ch: int | None) -> float | None:
    return None if value_ch is None else hours_from(value_ch)
