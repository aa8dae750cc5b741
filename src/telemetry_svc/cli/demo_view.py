"""What the demo shows: what came in, was raised and is queued in numbers; each kind of event with its count; the newest
alerts with the reason in words; the most urgent calls.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct
from rich.console import Group
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.policies import why
from telemetry_svc.rules import Policy
from telemetry_svc.store.decisions import Decision
from telemetry_svc.telemetry import EditionId

Policies = Mapping[EditionId, Policy]

NEWEST_ALERTS = 5
MOST_URGENT = 6
RULES = ("inspection", "warranty", "checkup", "fault", "hour_meter", "silence", "position", "sensor", "storm")
STAGES = (
    "upcoming",
    "due",
    "overdue",
    "completed",
    "superseded",
    "expiring",
    "expired",
    "opened",
    "worsened",
    "cleared",
)

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
           (SELECT count(*) FROM outbox WHERE topic LIKE 'excavator.alerts.%') AS alerts_out,
           (SELECT count(*) FROM command WHERE status = 'pending') AS commands,
           (SELECT count(*) FROM machine_state WHERE next_check_at <= now() + interval '10 s') AS waiting
    """
)
_COLUMNS = ", ".join(Decision.__struct_fields__)
_NEWEST = text(f"SELECT {_COLUMNS} FROM event ORDER BY n DESC LIMIT {NEWEST_ALERTS}")
_KINDS = text(
    f"""
    SELECT DISTINCT ON (kind, stage) kind, count(*) OVER (PARTITION BY kind, stage), {_COLUMNS}
    FROM (SELECT *, coalesce(body->'data'->>'rule', rule) AS kind FROM event) AS e
    ORDER BY kind, stage, n DESC
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


class Kind(Struct, frozen=True):
    """Events of one kind and stage (`geofence`, `opened`), and the newest of them."""

    name: str
    number: int
    newest: Decision

    @property
    def place(self) -> tuple[int, str, int]:
        """In the order of the policy: maintenance before anomalies, stage after stage."""
        rule, stage = self.newest.rule, self.newest.stage.partition("-")[0]
        return (
            RULES.index(rule) if rule in RULES else len(RULES),
            self.name,
            STAGES.index(stage) if stage in STAGES else len(STAGES),
        )


class Snapshot(Struct, frozen=True):
    """One look into the database. `read` counts records, `stored` pings, the rest rows.

    `commands`: not settled yet; `waiting`: machines for which time alone decides something now or within seconds.
    """

    read: int
    stored: int
    dead: int
    alerts: int
    tasks: int
    open_tasks: int
    unsent: int
    alerts_read: int
    alerts_out: int
    commands: int = 0
    waiting: int = 0
    newest: tuple[Decision, ...] = ()
    kinds: tuple[Kind, ...] = ()
    urgent: tuple[Any, ...] = ()

    @property
    def repeated(self) -> int:
        """Records read that made neither a ping nor a dead letter: repeats."""
        return self.read - self.stored - self.dead

    def settled(self, sent: int) -> bool:
        """Everything sent is read, time has passed, what was decided is out, and every alert has reached the queue."""
        if self.commands or self.waiting or self.unsent:
            return False
        return self.read >= sent and self.alerts_read >= self.alerts_out


async def snapshot(engine: AsyncEngine) -> Snapshot:
    """Looks once."""
    async with engine.connect() as connection:
        counts = (await connection.execute(_COUNTS)).one()._mapping
        newest = tuple(Decision(*row) for row in await connection.execute(_NEWEST))
        kinds = [Kind(row[0], row[1], Decision(*row[2:])) for row in await connection.execute(_KINDS)]
        urgent = tuple((await connection.execute(_URGENT)).all())
    return Snapshot(**counts, newest=newest, kinds=tuple(sorted(kinds, key=_place)), urgent=urgent)


def _place(kind: Kind) -> tuple[int, str, int]:
    return kind.place


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


def story_of(seen: Snapshot, policies: Policies) -> str:
    """Each kind of event with its count, and of the newest one the whole reason in words."""
    lines = []
    for kind in seen.kinds:
        lines += ["", f"{kind.name} {kind.newest.stage}: {kind.number}, the newest of {kind.newest.machine_id}"]
        lines += [f"    {line}" for line in _reason(kind.newest, policies)]
    return "\n".join([*lines, ""])


def _reason(decision: Decision, policies: Policies) -> tuple[str, ...]:
    """As `GET /v1/alerts/{id}/why` begins: the fact, the readings, the clause, the edition."""
    event = decision.event()
    policy = None if event is None else policies.get(event.data.policy_edition)
    if event is None or policy is None:
        return (f"{decision.rule} {decision.subject} {decision.stage}",)
    return why(policy, event)


def picture_of(seen: Snapshot, sent: int, at: datetime | None, policies: Policies) -> Group:
    """The same for a terminal, with what was raised, why the newest alerts were, and the most urgent calls."""
    numbers = Table(title=f"fleet at {_when(at)}", title_justify="left")
    for name in ("pings sent", "ingested", "repeated", "dead letters", "alerts raised", "calls queued", "open"):
        numbers.add_column(name, justify="right")
    counts = (sent, seen.stored, seen.repeated, seen.dead, seen.alerts, seen.tasks, seen.open_tasks)
    numbers.add_row(*(f"{count:,}" for count in counts))
    return Group(numbers, _kinds_table(seen), _newest_table(seen, policies), _calls_table(seen))


def _kinds_table(seen: Snapshot) -> Table:
    kinds = Table(title="raised", title_justify="left", show_header=False)
    kinds.add_column("rule", no_wrap=True)
    kinds.add_column("stages", ratio=1)
    for rule in dict.fromkeys(kind.newest.rule for kind in seen.kinds):
        kinds.add_row(rule, ", ".join(_counts([kind for kind in seen.kinds if kind.newest.rule == rule])))
    return kinds


def _counts(kinds: list[Kind]) -> Iterator[str]:
    """`12 due`, and where a rule has several names `1 geofence opened`."""
    for kind in kinds:
        name = "" if kind.name == kind.newest.rule else f"{kind.name} "
        yield f"{kind.number:,} {name}{kind.newest.stage}"


def _newest_table(seen: Snapshot, policies: Policies) -> Table:
    alerts = Table(title="newest alerts", title_justify="left")
    alerts.add_column("machine", no_wrap=True)
    alerts.add_column("why", ratio=1)
    for decision in seen.newest:
        alerts.add_row(decision.machine_id, " ".join(_reason(decision, policies)[:2]))
    return alerts


def _calls_table(seen: Snapshot) -> Table:
    calls = Table(title="most urgent calls", title_justify="left")
    for name, width in (("machine", 14), ("priority", 8), ("state", 9), ("expert", 9), ("reasons", 7)):
        calls.add_column(name, no_wrap=True, min_width=width)
    calls.add_column("first reason", no_wrap=True, overflow="ellipsis", ratio=1)
    for machine_id, priority, state, expert, reasons, first in seen.urgent:
        calls.add_row(machine_id, str(priority), state, expert, str(reasons), first)
    return calls


def _when(at: datetime | None) -> str:
    return "its start" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
