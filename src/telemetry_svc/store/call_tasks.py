"""Reads and writes call tasks with their reasons, always as whole `CallTask`s.

Whoever may open a task first holds the machine's registration (`machines.lock`), so that two openings of one machine
and a registration in between happen one after the other; then the task's row. A claim takes rows only.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Row, Select, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import (
    FINAL_STATES,
    AlertId,
    CallState,
    CallTask,
    Change,
    ExpertId,
    MachineContext,
    Reason,
    ReasonEnd,
    StateReason,
    TaskId,
)
from telemetry_svc.store import machines
from telemetry_svc.store.schema.calls import call_history, call_reason, call_subject, call_task
from telemetry_svc.store.schema.registry import contact
from telemetry_svc.telemetry import EditionId, MachineId, MachineStatus

_OPEN = call_task.c.state.not_in(sorted(FINAL_STATES))
_KNOWN_CHANGES = text(
    """
    SELECT h.task_id, h.at
    FROM unnest(CAST(:machine_ids AS text[]), CAST(:task_ids AS uuid[])) AS t (machine_id, task_id)
    JOIN call_history h ON h.machine_id = t.machine_id AND h.task_id = t.task_id
    """
)
"""Bound as arrays: a topic tells of any number of tasks, and PostgreSQL nests a list of pairs as deep as it is long."""
AT_ONCE = 1_000
"""Pairs in one such list."""
_TASK_KEYS = ("machine_id", "task_id")
_REASON_KEYS = (*_TASK_KEYS, "alert_id")


class Subject(Struct, frozen=True):
    """What the stages of one thing of a machine have in common; see `calls.Reason.subject`."""

    machine_id: MachineId
    name: str


async def clock(connection: AsyncConnection) -> datetime:
    """PostgreSQL's clock, by which leases and waiting times are judged (design.md, decision 13)."""
    now: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def lock_contexts(
    connection: AsyncConnection, machine_ids: Collection[MachineId]
) -> dict[MachineId, MachineContext]:
    """What the queue must know of these machines' registrations, held until the end; unknown ones are absent."""
    rows = await machines.lock(connection, machine_ids)
    counts = await _contact_counts(connection, machine_ids)
    return {
        machine_id: MachineContext(
            edition=row.machine.policy_edition,
            time_zone=row.machine.time_zone,
            expert_id=None if row.expert_id is None else ExpertId(row.expert_id),
            team_id=row.team_id,
            customer_id=row.machine.customer_id,
            contact_count=counts.get(machine_id, 0),
            retired=row.machine.status is MachineStatus.RETIRED,
        )
        for machine_id, row in rows.items()
    }


async def _contact_counts(connection: AsyncConnection, machine_ids: Collection[MachineId]) -> dict[MachineId, int]:
    query = (
        select(contact.c.machine_id, func.count())
        .where(contact.c.machine_id.in_(machine_ids), contact.c.phone_index.is_not(None))
        .group_by(contact.c.machine_id)
    )
    return {MachineId(machine_id): count for machine_id, count in await connection.execute(query)}


async def lock_open(connection: AsyncConnection, machine_ids: Collection[MachineId]) -> dict[MachineId, CallTask]:
    """The open tasks of these machines, held until the transaction ends."""
    query = select(call_task).where(call_task.c.machine_id.in_(machine_ids), _OPEN).order_by(call_task.c.machine_id)
    tasks = await load(connection, query.with_for_update())
    return {task.machine_id: task for task in tasks}


async def lock_one(connection: AsyncConnection, task_id: TaskId) -> CallTask | None:
    """One task, open or not, held until the transaction ends."""
    tasks = await load(connection, select(call_task).where(call_task.c.task_id == task_id).with_for_update())
    return tasks[0] if tasks else None


async def lock_all(connection: AsyncConnection, machine_id: MachineId) -> dict[TaskId, CallTask]:
    """All tasks that a machine ever had, held until the transaction ends."""
    query = select(call_task).where(call_task.c.machine_id == machine_id).order_by(call_task.c.n)
    return {task.task_id: task for task in await load(connection, query.with_for_update())}


async def get(connection: AsyncConnection, task_id: TaskId) -> CallTask | None:
    """One task as it is now."""
    tasks = await load(connection, select(call_task).where(call_task.c.task_id == task_id))
    return tasks[0] if tasks else None


async def machine_of(connection: AsyncConnection, task_id: TaskId) -> MachineId | None:
    """Whose task it is; that never changes."""
    found: str | None = await connection.scalar(select(call_task.c.machine_id).where(call_task.c.task_id == task_id))
    return None if found is None else MachineId(found)


async def load(connection: AsyncConnection, query: Select[Any]) -> list[CallTask]:
    """The tasks of a query over all of `call_task`'s columns, in its order, with the reasons that they list."""
    return [task for _, task in await load_rows(connection, query)]


async def load_rows(connection: AsyncConnection, query: Select[Any]) -> list[tuple[Row[Any], CallTask]]:
    """The same, each with its row."""
    rows = (await connection.execute(query)).all()
    reasons = await _listed_reasons(connection, [(row.machine_id, row.task_id) for row in rows])
    return [(row, task_from(row, reasons.get(row.task_id, ()))) for row in rows]


async def _listed_reasons(
    connection: AsyncConnection, keys: Sequence[tuple[str, TaskId]]
) -> Mapping[TaskId, tuple[Reason, ...]]:
    found: list[Row[Any]] = []
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        query = (
            select(call_reason)
            .where(tuple_(call_reason.c.machine_id, call_reason.c.task_id).in_(some), call_reason.c.listed)
            .order_by(call_reason.c.place)
        )
        found += await connection.execute(query)
    return by_task(found)


def by_task(rows: Iterable[Row[Any]]) -> Mapping[TaskId, tuple[Reason, ...]]:
    """Rows of `call_reason` as the reasons of each task, in the order of the rows."""
    reasons: dict[TaskId, tuple[Reason, ...]] = {}
    for row in rows:
        reasons[row.task_id] = (*reasons.get(row.task_id, ()), _reason_from(row))
    return reasons


async def reason_ids(connection: AsyncConnection, task: CallTask) -> frozenset[AlertId]:
    """All reasons that the task ever had, listed or not."""
    query = select(call_reason.c.alert_id).where(
        call_reason.c.machine_id == task.machine_id, call_reason.c.task_id == task.task_id
    )
    return frozenset(AlertId(alert_id) for alert_id in await connection.scalars(query))


async def all_reasons(connection: AsyncConnection, machine_id: MachineId) -> dict[AlertId, Reason]:
    """Every reason that a machine ever had, as it was last."""
    query = select(call_reason).where(call_reason.c.machine_id == machine_id).order_by(call_reason.c.joined_at)
    return {AlertId(row.alert_id): _reason_from(row) for row in await connection.execute(query)}


async def known_changes(
    connection: AsyncConnection, tasks: Collection[tuple[str, UUID]]
) -> frozenset[tuple[UUID, datetime]]:
    """Task and time of each change of these tasks, named with their machines, that the history knows."""
    named = list(tasks)
    values = {"machine_ids": [machine_id for machine_id, _ in named], "task_ids": [task_id for _, task_id in named]}
    return frozenset((row.task_id, row.at) for row in await connection.execute(_KNOWN_CHANGES, values))


async def last_change(connection: AsyncConnection) -> datetime | None:
    """When the history was written last; None where it is empty."""
    at: datetime | None = await connection.scalar(select(func.max(call_history.c.at)))
    return at


async def reached(connection: AsyncConnection, subjects: Collection[Subject]) -> dict[Subject, int]:
    """How far the queue has seen these subjects come; unknown ones are absent."""
    known: dict[Subject, int] = {}
    keys = [(subject.machine_id, subject.name) for subject in subjects]
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        query = select(call_subject).where(tuple_(call_subject.c.machine_id, call_subject.c.subject).in_(some))
        known |= {Subject(row.machine_id, row.subject): row.reached for row in await connection.execute(query)}
    return known


async def save(connection: AsyncConnection, changes: Sequence[Change], subjects_reached: Mapping[Subject, int]) -> None:
    """Writes tasks, reasons and history as the changes left them, and how far the subjects came."""
    # By the last change of each: a task that ended precedes the one that goes on in its place.
    tasks: dict[TaskId, CallTask] = {}
    for change in changes:
        tasks.pop(change.task.task_id, None)
        tasks[change.task.task_id] = change.task
    await _upsert(connection, call_task, _TASK_KEYS, [_task_row(task) for task in tasks.values()])
    await _upsert(connection, call_reason, _REASON_KEYS, [_reason_row(c, r) for c in changes for r in c.touched])
    await _upsert(
        connection,
        call_subject,
        ("machine_id", "subject"),
        [
            {"machine_id": subject.machine_id, "subject": subject.name, "reached": rank}
            for subject, rank in subjects_reached.items()
        ],
    )
    await keep_history(connection, changes)


async def keep_history(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """One line for each change: who, when, why, and the state after it."""
    rows = [
        {
            "machine_id": change.task.machine_id,
            "task_id": change.task.task_id,
            "at": change.at,
            "step": change.step.value,
            "state": change.task.state.value,
            "state_reason": change.task.state_reason,
            "why": change.why,
            "by": change.by,
        }
        for change in changes
    ]
    if rows:
        await connection.execute(call_history.insert(), rows)


async def _upsert(connection: AsyncConnection, table: Any, keys: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(_upsert_of(table, keys, tuple(rows[0])), rows)


@cache
def _upsert_of(table: Any, keys: tuple[str, ...], columns: tuple[str, ...]) -> Insert:
    """Built once per table: building it takes longer than most rows take to write."""
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in columns if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def task_from(row: Row[Any], reasons: tuple[Reason, ...]) -> CallTask:
    """A task of its row's columns and the reasons that it lists."""
    values = {name: getattr(row, name) for name in CallTask.__struct_fields__ if name != "reasons"}
    return CallTask(
        **values
        | {
            "edition": EditionId(row.edition),
            "state": CallState(row.state),
            "state_reason": None if row.state_reason is None else StateReason(row.state_reason),
            "rejected_by": tuple(row.rejected_by),
            "reasons": reasons,
        }
    )


def _reason_from(row: Row[Any]) -> Reason:
    values = {name: getattr(row, name) for name in Reason.__struct_fields__}
    return Reason(**values | {"ended": None if row.ended is None else ReasonEnd(row.ended)})


def _task_row(task: CallTask) -> dict[str, Any]:
    row = asdict(task)
    del row["reasons"]
    return row | {"rejected_by": list(task.rejected_by), "state": task.state.value}


def _reason_row(change: Change, reason: Reason) -> dict[str, Any]:
    return {"machine_id": change.task.machine_id, "task_id": change.task.task_id} | asdict(reason)
