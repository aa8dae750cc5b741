"""The claim: one statement that picks, locks and leases, so that no task is ever leased twice at once.

Rows are locked with SKIP LOCKED in the order of the stored rank, routes are judged by PostgreSQL's own clock
(design.md, decision 13). What an expert holds is counted under a lock of his own, taken before.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import CallState, CallTask, ExpertId, TaskId
from telemetry_svc.store.call_tasks import by_task, load, task_from
from telemetry_svc.store.schema.calls import call_reason, call_task

SWEEP_LIMIT = 500


class Lease(Struct, frozen=True):
    """A claimed task, its token, and until when it is held by the clock of the database."""

    task: CallTask
    token: UUID
    expires_at: datetime
    left_s: float


class Claimant(Struct, frozen=True):
    """Who claims; `team_id` where it is known."""

    expert_id: ExpertId
    team_id: str | None = None


_MAY_CLAIM = """
    t.state = 'pending'
    AND (t.expert_id = :expert_id
         OR t.route_anyone_at <= clock_timestamp()
         OR (t.team_id = :team_id AND t.route_team_at <= clock_timestamp()))
    AND NOT CAST(:expert_id AS text) = ANY (t.rejected_by)
"""
_PICK_NEXT = f"""
    first AS (
        SELECT t.machine_id, t.task_id, t.customer_id, t.rank_at, 0 AS turn
        FROM call_task t WHERE {_MAY_CLAIM}
        ORDER BY t.rank_at, t.machine_id LIMIT 1 FOR UPDATE SKIP LOCKED
    ), siblings AS (
        SELECT t.machine_id, t.task_id, t.rank_at, 1 AS turn
        FROM call_task t
        WHERE {_MAY_CLAIM}
          AND t.customer_id = (SELECT customer_id FROM first) AND t.task_id <> (SELECT task_id FROM first)
        ORDER BY t.rank_at, t.machine_id LIMIT :most - 1 FOR UPDATE SKIP LOCKED
    ), others AS (
        SELECT t.machine_id, t.task_id, t.rank_at, 2 AS turn
        FROM call_task t
        WHERE {_MAY_CLAIM}
          AND t.task_id <> (SELECT task_id FROM first)
          AND (t.customer_id IS NULL OR t.customer_id IS DISTINCT FROM (SELECT customer_id FROM first))
        ORDER BY t.rank_at, t.machine_id LIMIT :most - 1 - (SELECT count(*) FROM siblings) FOR UPDATE SKIP LOCKED
    ), picked AS (
        SELECT machine_id, task_id, rank_at, turn FROM first
        UNION ALL SELECT * FROM siblings
        UNION ALL SELECT * FROM others
    )
"""
_PICK_ONE = f"""
    picked AS (
        SELECT t.machine_id, t.task_id, t.rank_at, 0 AS turn
        FROM call_task t WHERE t.task_id = :task_id AND {_MAY_CLAIM} FOR UPDATE
    )
"""
_LEASE = """
    UPDATE call_task t
    SET state = 'claimed', leased_to = :expert_id, lease_token = gen_random_uuid(),
        lease_expires_at = clock_timestamp() + make_interval(secs => :lease_s), changed_at = clock_timestamp()
    FROM picked p WHERE t.machine_id = p.machine_id AND t.task_id = p.task_id
    RETURNING t.*, p.turn, extract(epoch FROM t.lease_expires_at - clock_timestamp())::float8 AS left_s
"""
CLAIM_NEXT = f"WITH {_PICK_NEXT} {_LEASE}"
CLAIM_ONE = f"WITH {_PICK_ONE} {_LEASE}"


async def lock_holder(connection: AsyncConnection, expert_id: ExpertId) -> None:
    """One claim of an expert at a time, until the transaction ends: else two could pass his limit together."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"call_holder|{expert_id}", 0))))


async def count_held(connection: AsyncConnection, expert_id: ExpertId) -> int:
    """Leases that the expert holds and that have not run out."""
    query = select(func.count()).where(
        call_task.c.state == CallState.CLAIMED.value,
        call_task.c.leased_to == expert_id,
        call_task.c.lease_expires_at > func.clock_timestamp(),
    )
    return (await connection.execute(query)).scalar_one()


async def claim_next(connection: AsyncConnection, claimant: Claimant, most: int, lease_s: float) -> list[Lease]:
    """Leases up to `most` tasks: the first by rank, then others of its customer, then the next by rank."""
    return await _leased(connection, CLAIM_NEXT, claimant, {"most": most, "lease_s": lease_s})


async def claim_one(connection: AsyncConnection, claimant: Claimant, task_id: TaskId, lease_s: float) -> Lease | None:
    """Leases this task if it may be claimed by this expert now."""
    leases = await _leased(connection, CLAIM_ONE, claimant, {"task_id": task_id, "lease_s": lease_s})
    return leases[0] if leases else None


async def _leased(
    connection: AsyncConnection, statement: str, claimant: Claimant, values: dict[str, Any]
) -> list[Lease]:
    parameters = {"expert_id": claimant.expert_id, "team_id": claimant.team_id} | values
    rows = (await connection.execute(text(statement), parameters)).all()
    rows = sorted(rows, key=lambda row: (row.turn, row.rank_at, row.machine_id))
    # A statement of its own: a reason may have joined between the claim's snapshot and its lock.
    shown = await _show_reasons(connection, rows)
    return [
        Lease(task_from(row, shown.get(row.task_id, ())), row.lease_token, row.lease_expires_at, row.left_s)
        for row in rows
    ]


async def _show_reasons(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> Any:
    keys = [(row.machine_id, row.task_id) for row in rows]
    if not keys:
        return {}
    statement = (
        update(call_reason)
        .where(tuple_(call_reason.c.machine_id, call_reason.c.task_id).in_(keys), call_reason.c.ended.is_(None))
        .values(shown=True)
        .returning(call_reason)
    )
    found = (await connection.execute(statement)).all()
    return by_task(sorted(found, key=lambda row: row.place))


async def still_held(connection: AsyncConnection, tokens: Mapping[UUID, UUID]) -> dict[UUID, int]:
    """Of tasks by their tokens, those whose lease holds right now, each with the wrong numbers passed."""
    query = select(call_task.c.task_id, call_task.c.contact_no).where(
        tuple_(call_task.c.task_id, call_task.c.lease_token).in_(list(tokens.items())),
        call_task.c.state == CallState.CLAIMED.value,
        call_task.c.lease_expires_at > func.clock_timestamp(),
    )
    return {row.task_id: row.contact_no for row in await connection.execute(query)}


async def extend(connection: AsyncConnection, task: CallTask, lease_s: float) -> tuple[datetime, float]:
    """Lets a lease that `lock_one` holds run `lease_s` from now; returns its end and how many seconds are left."""
    end = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)
    statement = (
        update(call_task)
        .where(call_task.c.machine_id == task.machine_id, call_task.c.task_id == task.task_id)
        .values(lease_expires_at=end)
        .returning(call_task.c.lease_expires_at)
    )
    expires_at: datetime = (await connection.execute(statement)).scalar_one()
    return expires_at, lease_s


async def lock_lapsed(connection: AsyncConnection, now: datetime) -> list[CallTask]:
    """Claimed tasks whose lease has run out, the oldest first, that nobody else is working on right now."""
    query = (
        select(call_task)
        .where(call_task.c.state == CallState.CLAIMED.value, call_task.c.lease_expires_at <= now)
        .order_by(call_task.c.lease_expires_at)
        .limit(SWEEP_LIMIT)
    )
    return await load(connection, query.with_for_update(skip_locked=True))


async def lock_ripe(connection: AsyncConnection, now: datetime) -> list[CallTask]:
    """Waiting tasks whose time has come, the longest waiting first, that nobody else is working on right now."""
    waiting = (CallState.WAITING_WINDOW.value, CallState.CALLBACK_SCHEDULED.value)
    query = (
        select(call_task)
        .where(call_task.c.state.in_(waiting), call_task.c.not_before <= now)
        .order_by(call_task.c.not_before)
        .limit(SWEEP_LIMIT)
    )
    return await load(connection, query.with_for_update(skip_locked=True))
