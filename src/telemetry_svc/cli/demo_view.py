"""What the demo shows: what came in, was raised and is queued in numbers, the newest alerts, the most urgent calls."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from rich.console import Group
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

NEWEST_ALERTS = 8
MOST_URGENT = 8

_COUNTS = text(
    """
    SELECT (SELECT coalesce(sum(next_offset_a), 0)::bigint FROM partition_owner
            WHERE group_name = 'telemetry-ingest') AS read,
           (SELECT count(*) FROM ping) + (SELECT count(*) FROM ping_outlier) AS stored,
           (SELECT count(*) FROM dead_letter WHERE taken_up_at IS NULL) AS dead,
           (SELECT count(*) FROM event) AS alerts,
           (SELECT count(*) FROM call_task) AS tasks,
           (SELECT count(*) FROM call_task WHERE state NOT IN ('completed', 'cancelled')) AS open_tasks,
           (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL) AS unsent,
           (SELECT coalesce(sum(next_offset_a + next_offset_b), 0)::bigint FROM partition_owner
            WHERE group_name = 'telemetry-notify') AS alerts_read,
           (SELECT count(*) FROM outbox WHERE topic LIKE 'excavator.alerts.%') AS alerts_out
    """
)
_NEWEST = text(
    f"""
    SELECT machine_id, rule, subject, stage, time FROM event ORDER BY n DESC LIMIT {NEWEST_ALERTS}
    """
)
_URGENT = text(
    f"""
    SELECT t.machine_id, t.priority, t.state, coalesce(t.leased_to, t.expert_id, ''), r.reasons, r.first
    FROM (SELECT * FROM call_task WHERE state NOT IN ('completed', 'cancelled')
          ORDER BY rank_at NULLS LAST LIMIT {MOST_URGENT}) AS t
    CROSS JOIN LATERAL (
        SELECT count(*) AS reasons, (array_agg(summary ORDER BY priority, place))[1] AS first FROM call_reason
        WHERE machine_id = t.machine_id AND task_id = t.task_id AND ended IS NULL
    ) AS r
    ORDER BY t.rank_at NULLS LAST
    """
)


class Snapshot(Struct, frozen=True):
    """One look into the database. `read` counts records, `stored` pings, the rest rows."""

    read: int
    stored: int
    dead: int
    alerts: int
    tasks: int
    open_tasks: int
    unsent: int
    alerts_read: int
    alerts_out: int
    newest: tuple[Any, ...] = ()
    urgent: tuple[Any, ...] = ()

    @property
    def repeated(self) -> int:
        """Records read that made neither a ping nor a dead letter: repeats."""
        return self.read - self.stored - self.dead

    def settled(self, sent: int) -> bool:
        """Everything sent is read, everything decided is out, and every alert has reached the call queue."""
        return self.read >= sent and not self.unsent and self.alerts_read >= self.alerts_out


async def snapshot(engine: AsyncEngine) -> Snapshot:
    """Looks once."""
    async with engine.connect() as connection:
        counts = (await connection.execute(_COUNTS)).one()._mapping
        newest = tuple((await connection.execute(_NEWEST)).all())
        urgent = tuple((await connection.execute(_URGENT)).all())
    return Snapshot(**counts, newest=newest, urgent=urgent)


async def machines_known(engine: AsyncEngine) -> int:
    """How many machines ingest knows by now."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM machine_state"))).scalar_one())


def line_of(seen: Snapshot, sent: int, at: datetime | None) -> str:
    """One line for a log."""
    return (
        f"fleet at {_when(at)}: {sent} pings sent, {seen.stored} ingested, {seen.repeated} repeated, "
        f"{seen.dead} dead letters, {seen.alerts} alerts raised, {seen.tasks} calls queued ({seen.open_tasks} open)"
    )


def picture_of(seen: Snapshot, sent: int, at: datetime | None) -> Group:
    """The same for a terminal, with the newest alerts and the most urgent calls."""
    numbers = Table(title=f"fleet at {_when(at)}", title_justify="left")
    for name in ("pings sent", "ingested", "repeated", "dead letters", "alerts raised", "calls queued", "open"):
        numbers.add_column(name, justify="right")
    counts = (sent, seen.stored, seen.repeated, seen.dead, seen.alerts, seen.tasks, seen.open_tasks)
    numbers.add_row(*(f"{count:,}" for count in counts))
    alerts = Table(title="newest alerts", title_justify="left")
    for name in ("machine", "rule", "subject", "stage", "true since"):
        alerts.add_column(name, no_wrap=True)
    for machine_id, rule, subject, stage, time in seen.newest:
        alerts.add_row(machine_id, rule, subject, stage, f"{time:%Y-%m-%d %H:%M}")
    calls = Table(title="most urgent calls", title_justify="left")
    for name, width in (("machine", 14), ("priority", 8), ("state", 9), ("expert", 9), ("reasons", 7)):
        calls.add_column(name, no_wrap=True, min_width=width)
    calls.add_column("first reason", no_wrap=True, overflow="ellipsis", ratio=1)
    for machine_id, priority, state, expert, reasons, first in seen.urgent:
        calls.add_row(machine_id, str(priority), state, expert, str(reasons), first)
    return Group(numbers, alerts, calls)


def _when(at: datetime | None) -> str:
    return "its start" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
