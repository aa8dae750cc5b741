"""The desk where experts take calls and bring back what became of them.

Every method works in the caller's transaction and never commits. A refusal is an outcome, not an exception, and
changes nothing. Time is PostgreSQL's: leases, routes and waiting times are all judged by one clock.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import CallState, CallTask, Change, ExpertId, MachineContext, ReasonEnd, Step, TaskId
from telemetry_svc.notify import lifecycle, outcomes
from telemetry_svc.notify.announce import announce, record
from telemetry_svc.notify.outcomes import Report
from telemetry_svc.notify.queues import Queues
from telemetry_svc.privacy import Keyring
from telemetry_svc.store import call_answers, call_claims, call_outcomes, call_tasks
from telemetry_svc.store.call_claims import Claimant, Lease
from telemetry_svc.store.call_outcomes import Told
from telemetry_svc.store.identity import was_restored
from telemetry_svc.telemetry import MachineId


class Refusal(StrEnum):
    """Why a request changed nothing."""

    UNKNOWN_TASK = "unknown_task"
    STALE_TOKEN = "stale_token"  # noqa: S105 - a name, no secret
    NOT_OFFERED = "not_offered"
    NO_ROOM = "no_room"
    NOT_YOURS = "not_yours"
    CLOSED = "closed"


class BadField(Struct, frozen=True):
    """A field that does not fit this task, found only when the task was there."""

    field: str
    message: str


class Holder(Struct, frozen=True):
    """Who comes with a token. `speaks_for`: the only expert that the key may speak for; None: any."""

    token: str
    speaks_for: ExpertId | None = None


class CallDesk:
    """Claims, leases and outcomes of call tasks."""

    def __init__(self, queues: Queues, keyring: Keyring) -> None:
        self._queues = queues
        self._keyring = keyring

    async def claim(
        self, connection: AsyncConnection, claimant: Claimant, most: int, lease_s: float | None = None
    ) -> list[Lease] | Refusal:
        """Leases up to `most` tasks in order of rank, as many as the expert has room for."""
        if await was_restored(connection):
            return Refusal.CLOSED
        room = await self._room(connection, claimant.expert_id)
        if room <= 0:
            return Refusal.NO_ROOM
        leases = await call_claims.claim_next(connection, claimant, min(most, room), self._lease_s(lease_s))
        await _tell_claimed(connection, leases)
        return leases

    async def claim_task(
        self, connection: AsyncConnection, claimant: Claimant, task_id: TaskId, lease_s: float | None = None
    ) -> Lease | Refusal:
        """Leases one task of the expert's choice, if it is offered to him now."""
        if await was_restored(connection):
            return Refusal.CLOSED
        if await self._room(connection, claimant.expert_id) <= 0:
            return Refusal.NO_ROOM
        lease = await call_claims.claim_one(connection, claimant, task_id, self._lease_s(lease_s))
        if lease is None:
            known = await call_tasks.machine_of(connection, task_id)
            return Refusal.UNKNOWN_TASK if known is None else Refusal.NOT_OFFERED
        await _tell_claimed(connection, [lease])
        return lease

    async def renew(
        self, connection: AsyncConnection, task_id: TaskId, holder: Holder, lease_s: float | None = None
    ) -> Lease | Refusal:
        """Lets a lease run anew. One that ran out and was not taken is taken up again, where there is room."""
        seen = await call_tasks.get(connection, task_id)
        room = 0 if seen is None or seen.leased_to is None else await self._room(connection, seen.leased_to)
        task = await _held(connection, task_id, holder)
        if isinstance(task, Refusal):
            return task
        if task.state is CallState.CLAIMED:
            return await _extended(connection, task, self._lease_s(lease_s))
        if task.state is not CallState.PENDING:
            return Refusal.NOT_OFFERED
        if room <= 0:
            return Refusal.NO_ROOM
        return await self._take_up(connection, task, self._lease_s(lease_s))

    async def release(self, connection: AsyncConnection, task_id: TaskId, holder: Holder) -> CallTask | Refusal:
        """Gives a task back, to be offered again at once."""
        return await self._free(connection, task_id, holder, Step.RELEASED)

    async def reject(self, connection: AsyncConnection, task_id: TaskId, holder: Holder) -> CallTask | Refusal:
        """Gives a task back, to be offered no more to this expert."""
        return await self._free(connection, task_id, holder, Step.REJECTED)

    async def settle(
        self, connection: AsyncConnection, task_id: TaskId, holder: Holder, told: Told, callback_at: datetime | None
    ) -> CallTask | Refusal | BadField:
        """Takes the outcome of a call: the task as it is after it."""
        machine_id = await call_tasks.machine_of(connection, task_id)
        if machine_id is None:
            return Refusal.UNKNOWN_TASK
        await call_tasks.lock_contexts(connection, [machine_id])  # the rest may open a task: see store.call_tasks
        task = await _held(connection, task_id, holder)
        if isinstance(task, Refusal):
            return task
        now = await call_tasks.clock(connection)
        report = await self._report(connection, task, told, callback_at, now)
        if isinstance(report, BadField):
            return report
        changes = outcomes.settled(task, report, self._queues.of(task.edition), now)
        await record(connection, changes)
        await call_outcomes.keep(connection, self._keyring, task, changes[0], told)
        return changes[0].task

    async def sweep(self, connection: AsyncConnection) -> int:
        """Brings back leases that ran out and offers what has waited long enough; returns how many tasks moved."""
        now = await call_tasks.clock(connection)
        lapsed = await call_claims.lock_lapsed(connection, now)
        ripe = await call_claims.lock_ripe(connection, now)
        changes = [lifecycle.freed(task, Step.LAPSED, self._queues.of(task.edition), now) for task in lapsed]
        changes += [lifecycle.ripened(task, self._queues.of(task.edition), now) for task in ripe]
        await record(connection, changes)
        await call_answers.forget_old(connection, now)
        return len(changes)

    async def contacts_changed(self, connection: AsyncConnection, machine_ids: Sequence[MachineId]) -> None:
        """Lets open tasks follow their machines' registration: numbers, expert, team, customer, retirement.

        Called in the registration's own transaction, after its writes.
        """
        contexts = await call_tasks.lock_contexts(connection, machine_ids)
        tasks = await call_tasks.lock_open(connection, machine_ids)
        now = await call_tasks.clock(connection)
        followed = [self._follow(task, contexts[machine_id], now) for machine_id, task in tasks.items()]
        await record(connection, [change for change in followed if change is not None])

    def _follow(self, task: CallTask, context: MachineContext, now: datetime) -> Change | None:
        queue = self._queues.of(task.edition)
        if context.retired:
            every = frozenset(reason.alert_id for reason in task.open_reasons)
            return lifecycle.reasons_ended(task, every, ReasonEnd.RETIRED, queue, now)
        return lifecycle.moved_context(task, context, queue, now)

    async def _room(self, connection: AsyncConnection, expert_id: ExpertId) -> int:
        await call_claims.lock_holder(connection, expert_id)
        return self._queues.desk.leases_per_expert - await call_claims.count_held(connection, expert_id)

    def _lease_s(self, asked_s: float | None) -> float:
        longest_s = float(self._queues.desk.lease_max_s)
        return min(longest_s, self._queues.desk.lease_default_s if asked_s is None else asked_s)

    async def _take_up(self, connection: AsyncConnection, task: CallTask, lease_s: float) -> Lease:
        now = await call_tasks.clock(connection)
        again = replace(task, state=CallState.CLAIMED)
        await record(connection, [lifecycle.change(task, again, Step.CLAIMED, now, "taken up again", task.leased_to)])
        return await _extended(connection, again, lease_s)

    async def _free(
        self, connection: AsyncConnection, task_id: TaskId, holder: Holder, step: Step
    ) -> CallTask | Refusal:
        task = await _held(connection, task_id, holder)
        if isinstance(task, Refusal):
            return task
        now = await call_tasks.clock(connection)
        change = lifecycle.freed(task, step, self._queues.of(task.edition), now)
        await record(connection, [change])
        return change.task

    async def _report(
        self, connection: AsyncConnection, task: CallTask, told: Told, callback_at: datetime | None, now: datetime
    ) -> Report | BadField:
        rule = lifecycle.outcome_rule(self._queues.of(task.edition), told.outcome)
        if rule is None:
            return BadField("outcome", "no outcome that the policy knows")
        if callback_at is not None and callback_at <= now:
            return BadField("callback_at", "lies in the past")
        if told.reasons_done and not told.reasons_done <= await call_tasks.reason_ids(connection, task):
            return BadField("reasons_done", "holds an id that was never a reason of this task")
        return Report(rule, told.reasons_done, callback_at)


async def _held(connection: AsyncConnection, task_id: TaskId, holder: Holder) -> CallTask | Refusal:
    task = await call_tasks.lock_one(connection, task_id)
    if task is None:
        return Refusal.UNKNOWN_TASK
    if task.lease_token is None or str(task.lease_token) != holder.token.lower():
        return Refusal.STALE_TOKEN
    if holder.speaks_for not in {None, task.leased_to}:
        return Refusal.NOT_YOURS
    return task


async def _extended(connection: AsyncConnection, task: CallTask, lease_s: float) -> Lease:
    expires_at, left_s = await call_claims.extend(connection, task, lease_s)
    assert task.lease_token is not None  # noqa: S101 - `_held` compared it
    return Lease(replace(task, lease_expires_at=expires_at), task.lease_token, expires_at, left_s)


async def _tell_claimed(connection: AsyncConnection, leases: Sequence[Lease]) -> None:
    """The claim itself is written already; what is left is to remember and to tell it."""
    changes = [
        Change(lease.task, Step.CLAIMED, lease.task.changed_at, "claimed", lease.task.leased_to) for lease in leases
    ]
    await call_tasks.keep_history(connection, changes)
    await announce(connection, changes)
