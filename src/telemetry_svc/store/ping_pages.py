"""A machine's pings read back for people: page by page as they were stored, or summed up in buckets of time.

One owner stores a machine's pings in the order of `apply_seq`, so a page that ends at one is followed by all that comes
later: a late ping joins behind the cursor, never before it (design.md, decision 17).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Subquery, func, literal, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.cursor import Cursor
from telemetry_svc.store.replay_rows import ping_of
from telemetry_svc.store.schema.telemetry import ping, ping_outlier
from telemetry_svc.telemetry import MachineId, Ping


class Span(Struct, frozen=True):
    """Pings of one machine recorded from `begin` (inclusive) to `end` (exclusive)."""

    machine_id: MachineId
    begin: datetime
    end: datetime


class PingRow(Struct, frozen=True):
    """A ping as it was stored."""

    ping: Ping
    received_at: datetime
    future: bool


class BucketRow(Struct, frozen=True):
    """Pings recorded from `begin` on, to the next bucket; hours in hundredths, of the meter as shown."""

    begin: datetime
    pings: int
    min_ch: int | None
    max_ch: int | None
    last_ch: int | None


async def page(connection: AsyncConnection, span: Span, after: Cursor, limit: int) -> Sequence[tuple[Cursor, PingRow]]:
    """Up to `limit` pings after a cursor, in the order in which they were stored."""
    rows = await connection.execute(page_query(span, after, limit))
    return [
        (Cursor(row.apply_seq, row.topic_offset), PingRow(ping_of(row), row.received_at, row.future)) for row in rows
    ]


def page_query(span: Span, after: Cursor, limit: int) -> Select[Any]:
    """The rows of a page."""
    both = _both(span)
    place = tuple_(both.c.apply_seq, both.c.topic_offset)
    later = place > tuple_(literal(after.xid), literal(after.n))
    return select(both).where(later).order_by(both.c.apply_seq, both.c.topic_offset).limit(limit)


async def buckets(
    connection: AsyncConnection, span: Span, width: timedelta | str, after: datetime | None, limit: int
) -> Sequence[BucketRow]:
    """Up to `limit` buckets that hold pings, after the one that begins at `after`, in order of time.

    `width`: a length, counted from 1970 in UTC, or the time zone whose days are the buckets.
    """
    rows = await connection.execute(buckets_query(span, width, after, limit))
    return [BucketRow(*row) for row in rows]


def buckets_query(span: Span, width: timedelta | str, after: datetime | None, limit: int) -> Select[Any]:
    """The rows of `buckets`: (begin, pings, min, max, last)."""
    both = _both(span)
    begin: ColumnElement[Any] = (
        func.date_trunc("day", both.c.recorded_at, width)
        if isinstance(width, str)
        else func.date_bin(width, both.c.recorded_at, func.to_timestamp(0))
    ).label("begin")
    hours = both.c.hour_meter_ch
    newest_first = aggregate_order_by(hours, both.c.recorded_at.desc(), both.c.apply_seq.desc())
    last = func.array_agg(newest_first).filter(hours.is_not(None))
    query = select(begin, func.count(), func.min(hours), func.max(hours), last[1])
    if after is not None:
        query = query.where(both.c.recorded_at >= after, begin > after)
    return query.group_by(begin).order_by(begin).limit(limit)


def _both(span: Span) -> Subquery:
    """History and outliers: a clock gone astray may still fall into the span."""
    parts = [
        select(table).where(
            table.c.machine_id == span.machine_id, table.c.recorded_at >= span.begin, table.c.recorded_at < span.end
        )
        for table in (ping, ping_outlier)
    ]
    return union_all(*parts).subquery()
