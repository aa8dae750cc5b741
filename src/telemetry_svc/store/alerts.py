"""Reads the decided events back, as the CloudEvents that went out, for people and streams."""

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.cursor import Cursor, between, committed_end
from telemetry_svc.store.schema.telemetry import event


class AlertFilter(Struct, frozen=True):
    """Which alerts; None = any. `stage` is that of maintenance, `phase` and `severity` those of an anomaly."""

    machine_id: str | None = None
    type: str | None = None
    stage: str | None = None
    phase: str | None = None
    severity: str | None = None


class AlertPage(Struct, frozen=True):
    """Alerts with the cursor of each. `end`: from here on nothing was looked at; it may lie far behind the last one."""

    rows: list[tuple[Cursor, dict[str, Any]]]
    end: Cursor


async def page(connection: AsyncConnection, which: AlertFilter, after: Cursor, limit: int) -> AlertPage:
    """Up to `limit` alerts after a cursor, in the order in which they were decided and committed."""
    end = await committed_end(connection)
    found = await connection.execute(page_query(which, after, end, limit))
    rows = [(Cursor(row.xid, row.n), row.body) for row in found]
    return AlertPage(rows, rows[-1][0] if len(rows) == limit else max(after, end))


def page_query(which: AlertFilter, after: Cursor, end: Cursor, limit: int) -> Select[Any]:
    """The rows of a page: (xid, n, body)."""
    query = select(event.c.xid, event.c.n, event.c.body).where(*_conditions(which))
    return between(query, event.c.xid, event.c.n, after, end, limit)


def _conditions(which: AlertFilter) -> list[ColumnElement[bool]]:
    data = event.c.body["data"]
    pairs = [
        (event.c.machine_id, which.machine_id),
        (event.c.type, which.type),
        (data["stage"].astext, which.stage),
        (data["phase"].astext, which.phase),
        (data["severity"].astext, which.severity),
    ]
    return [column == value for column, value in pairs if value is not None]
