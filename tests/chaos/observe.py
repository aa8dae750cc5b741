"""Reads what came out: the broker's log, the database, the topics; and waits until nothing moves any more."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text

from telemetry_svc import topics
from telemetry_svc.events import MAINTENANCE_DUE_TYPE
from telemetry_svc.simulate.truth import Fact
from telemetry_svc.units import rfc3339_ms
from tests.chaos.arena import Servers, holds
from tests.chaos.records import (
    Change,
    CommandRow,
    EventRow,
    HistoryRow,
    Hours,
    Letter,
    Logged,
    Observed,
    Remembered,
    Task,
    Told,
)
from tests.chaos.traffic import digest_of
from tests.conftest import ends_of, read_topic

GROUPS = {
    topics.INGEST_GROUP: (topics.PINGS, topics.COMMANDS),
    topics.NOTIFY_GROUP: (topics.MAINTENANCE_DUE, topics.ANOMALY),
}
QUIET_LOOKS = 3
_OUTBOX = "SELECT topic, parked_reason FROM outbox WHERE sent_at IS NULL"
_PENDING = "SELECT machine_id, kind FROM command WHERE status = 'pending'"
_LEASED = "SELECT machine_id FROM call_task WHERE state = 'claimed'"
_READ = "SELECT group_name, partition, next_offset_a, next_offset_b FROM partition_owner"
_HISTORY = """
    SELECT machine_id, recorded_at, hour_meter_ch, engine_running, sequence, partition, topic_offset, apply_seq FROM {}
"""
_TASKS = """
    SELECT t.machine_id, CAST(t.task_id AS text), t.state, t.priority,
           array_remove(array_agg(r.alert_id) FILTER (WHERE r.ended IS NULL), NULL)
    FROM call_task t LEFT JOIN call_reason r USING (machine_id, task_id) GROUP BY 1, 2, 3, 4
"""
_CHANGES = "SELECT machine_id, CAST(task_id AS text), state FROM call_history ORDER BY n"
_EVENTS = "SELECT id, machine_id, rule, subject, stage, time, type, body -> 'data' FROM event ORDER BY n"
_LETTERS = "SELECT topic, partition, topic_offset, error_class, taken_up_as FROM dead_letter"
_COMMANDS = "SELECT machine_id, kind, CAST(id AS text), status FROM command"
_SETTLED = "SELECT alert_id FROM call_reason WHERE ended = 'settled'"
_OUTCOMES = "SELECT CAST(task_id AS text) FROM call_outcome"
_GAPS = "SELECT topic, partition, from_offset, to_offset, reason FROM offset_gap"


async def drained(servers: Servers, within_s: float) -> tuple[str, ...]:
    """Waits until everything is read, sent and given back; what is still not final when the time is over."""
    quiet = 0
    left: list[str] = []

    async def is_final() -> bool:
        nonlocal quiet, left
        left = await _unfinished(servers)
        quiet = 0 if left else quiet + 1
        return quiet >= QUIET_LOOKS

    return () if await holds(is_final, within_s) else tuple(left or ["it could not be asked"])


async def observed(servers: Servers, stuck: tuple[str, ...]) -> Observed:
    """Everything that the comparison looks at."""
    alerts = [
        Told(name, record.key.decode(), UUID(json.loads(record.value)["id"]))
        for name in (topics.MAINTENANCE_DUE, topics.ANOMALY)
        for record in await _topic(servers, name)
    ]
    states = {row[0]: _state(row[1]) for row in await _rows(servers, "SELECT machine_id, state FROM machine_state")}
    return Observed(
        log=tuple(
            Logged((record.partition, record.offset), digest_of(record.value))
            for record in await _topic(servers, topics.PINGS)
        ),
        history=tuple([_history(row) for name in ("ping", "ping_outlier") for row in await _pings(servers, name)]),
        events=tuple(_event(row) for row in await _rows(servers, _EVENTS)),
        alerts=tuple(alerts),
        letters=tuple(Letter(row[0], (row[1], row[2]), *row[3:]) for row in await _rows(servers, _LETTERS)),
        letter_records=tuple(_letter(record) for record in await _topic(servers, topics.DEAD_LETTERS)),
        states={machine_id: _hours(state) for machine_id, state in states.items()},
        remembered={machine_id: _remembered(state) for machine_id, state in states.items()},
        commands=tuple(CommandRow(*row) for row in await _rows(servers, _COMMANDS)),
        settled=frozenset(row[0] for row in await _rows(servers, _SETTLED)),
        outcomes=tuple(row[0] for row in await _rows(servers, _OUTCOMES)),
        tasks=tuple(_task(row) for row in await _rows(servers, _TASKS)),
        changes=tuple(Change(*row) for row in await _rows(servers, _CHANGES)),
        calls=tuple(_call(record) for record in await _topic(servers, topics.CALLS)),
        stuck=stuck,
        slots=len(await _rows(servers, "SELECT slot FROM schedule_slot")),
        gaps=tuple(" ".join(map(str, row)) for row in await _rows(servers, _GAPS)),
    )


async def _unfinished(servers: Servers) -> list[str]:
    found = [f"outbox row for {topic} ({parked or 'not sent'})" for topic, parked in await _rows(servers, _OUTBOX)]
    found += [f"command {kind} of {machine_id}" for machine_id, kind in await _rows(servers, _PENDING)]
    found += [f"call of {machine_id} is still leased" for (machine_id,) in await _rows(servers, _LEASED)]
    read = {(row[0], row[1]): (row[2], row[3]) for row in await _rows(servers, _READ)}
    async with asyncio.timeout(20):
        ends = await ends_of(servers.kafka, [name for pair in GROUPS.values() for name in pair])
    for pair, end in ends.items():
        group, place = next((group, names.index(pair.topic)) for group, names in GROUPS.items() if pair.topic in names)
        offset = read.get((group, pair.partition), (-1, -1))[place]
        if offset != end:
            found.append(f"{pair.topic} {pair.partition} is read up to {offset} of {end}")
    return found


async def _rows(servers: Servers, sql: str) -> list[Any]:
    async with servers.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(sql))]


async def _pings(servers: Servers, table: str) -> list[Any]:
    return await _rows(servers, _HISTORY.format(table))


async def _topic(servers: Servers, name: str) -> Sequence[Any]:
    """Records that have a key and a value, as all of ours do."""
    return await read_topic(servers.kafka, name)


def _history(row: Any) -> HistoryRow:
    machine_id, recorded_at, meter_ch, running, sequence, partition, offset, apply_seq = row
    key = (machine_id, recorded_at.astimezone(UTC), meter_ch, running, sequence)
    return HistoryRow(key, (partition, offset), apply_seq)


def _task(row: Any) -> Task:
    machine_id, task_id, state, priority, reasons = row
    return Task(machine_id, task_id, state, priority, frozenset(reasons or ()))


def _event(row: Any) -> EventRow:
    id_, machine_id, rule, subject, stage, at, type_, data = row
    topic = topics.MAINTENANCE_DUE if type_ == MAINTENANCE_DUE_TYPE else topics.ANOMALY
    return EventRow(id_, Fact(machine_id, rule, subject, stage, at.astimezone(UTC)), topic, priority_of(data))


def priority_of(data: dict[str, Any]) -> int | None:
    """policy.md, The call queue; None where nobody is called."""
    if data["kind"] in {"inspection", "warranty", "checkup"}:
        return {"overdue": 5, "due": 6, "expiring": 7, "expired": 7, "upcoming": 8}.get(data["stage"])
    if data["kind"] == "fault" or data["rule"] in {"coolant_temperature_c", "oil_pressure_kpa"}:
        return {"critical": 1, "major": 2, "general": 3, "warning": None}[data["severity"]]
    return 4 if data["rule"] == "outside_hours" else None


class _Meter(msgspec.Struct, frozen=True):
    true_ch: int | None = None


class _Inspections(msgspec.Struct, frozen=True):
    milestones: tuple[tuple[int, str], ...] = ()


class _Maintenance(msgspec.Struct, frozen=True):
    inspections: _Inspections = _Inspections()


class _Code(msgspec.Struct, frozen=True):
    source_address: int
    spn: int
    fmi: int
    opened_at: datetime


class _Faults(msgspec.Struct, frozen=True):
    codes: tuple[_Code, ...] = ()


class _State(msgspec.Struct, frozen=True):
    """Those things of a state that can be held against something else."""

    newest_recorded_at: datetime | None = None
    meter: _Meter = _Meter()
    maintenance: _Maintenance = _Maintenance()
    faults: _Faults = _Faults()


def _state(encoded: bytes) -> _State:
    return msgspec.json.decode(encoded, type=_State)


def _hours(state: _State) -> Hours:
    return Hours(state.newest_recorded_at or datetime.min.replace(tzinfo=UTC), state.meter.true_ch)


def _remembered(state: _State) -> Remembered:
    told = {str(milestone_h): stage for milestone_h, stage in state.maintenance.inspections.milestones}
    return Remembered(
        milestones={subject: stage for subject, stage in told.items() if stage not in {"ahead", "settled"}},
        faults=frozenset(
            f"{one.spn}/{one.fmi}/{one.source_address}@{rfc3339_ms(one.opened_at)}" for one in state.faults.codes
        ),
    )


def _letter(record: Any) -> Letter:
    headers = {name: value.decode() for name, value in record.headers if name.startswith("x-")}
    position = (int(headers["x-original-partition"]), int(headers["x-original-offset"]))
    return Letter(headers["x-original-topic"], position, headers["x-error-class"])


def _call(record: Any) -> Change:
    event = json.loads(record.value)
    return Change(event["partitionkey"], event["subject"], event["data"]["state"], event["id"])
