"""What ingest does with a batch, in one visible order (`IngestHandler.apply`).

The cache of machine states takes the new ones only after COMMIT has returned (design.md, decision 10); anything else
drops it, and so does every change of ownership.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.clock import Clock, SystemClock
from telemetry_svc.codec.command import TickSignal, machine_of
from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.ingest.breaker import LIMITS, Breaker, BreakerLimits, Trial
from telemetry_svc.ingest.decoding import Decoded, decode_batch
from telemetry_svc.ingest.desk import Desk
from telemetry_svc.ingest.lookout import LOOK_EVERY_S, Lookout
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.ingest.ticks import MACHINES_PER_TURN, WaitingTick, WaitingTicks
from telemetry_svc.ingest.trying import AT_ONCE, Turn, put_off, take_up_registered, try_again
from telemetry_svc.ingest.writing import write
from telemetry_svc.rules import MachineState, Policy
from telemetry_svc.store.command_outcomes import settled_commands
from telemetry_svc.store.history import PingKey, Weeks, known_pings
from telemetry_svc.store.parked import parked_machines
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, reason_of, refusal_of
from telemetry_svc.store.snapshots import take_snapshots
from telemetry_svc.store.states import due_machines, load_states
from telemetry_svc.stream.batch import Batch, HeldBack
from telemetry_svc.telemetry import EditionId, MachineId

log = structlog.get_logger(__name__)

CACHED_MACHINES = 200_000
_CLOCK = SystemClock()


class Work(Struct):
    """A decoded batch and, once it is applied, the desk that decided it, how the breaker sees it, the ticks it used up,
    and the partitions in which nothing more waits to be tried again.

    `is_alone`: PostgreSQL refused its one record, or its turn, with what was done beside it. `is_poisoned`: it refuses
    the record itself, so nothing is done but to get past it. `at_most`: so many of the records that waited are taken;
    `waiting_poison`: why PostgreSQL refuses the one that is.
    """

    decoded: list[Decoded]
    is_alone: bool = False
    is_poisoned: bool = False
    at_most: int = AT_ONCE
    waiting_poison: Rejected | None = None
    desk: Desk | None = None
    trial: Trial | None = None
    ticks: list[tuple[int, WaitingTick]] = []
    nothing_waits: list[int] = []

    @property
    def is_whole(self) -> bool:
        """Whether it is as it was read."""
        return not (self.is_alone or self.is_poisoned)

    @property
    def is_lone_turn(self) -> bool:
        """Whether PostgreSQL refuses one of the records that waited, and nothing else is in this."""
        return self.is_alone and any(one.slice.reserved for one in self.decoded)


class IngestHandler:
    """The `Handler` of the group `telemetry-ingest`.

    `ends_of_pings` asks the broker for the end offsets of ping partitions; `weeks` are those that have a partition in
    history, replaced by whoever has made new ones. `lookout` must be watching, or nothing is tried again.
    """

    def __init__(
        self,
        *,
        policies: Mapping[EditionId, Policy],
        partitions: int,
        weeks: Weeks,
        metrics: IngestMetrics,
        ends_of_pings: Callable[[Collection[int]], Awaitable[Mapping[int, int]]],
        clock: Clock = _CLOCK,
        limits: BreakerLimits = LIMITS,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._policies = policies
        self._partitions = partitions
        self.weeks = weeks
        self._metrics = metrics
        self._ends_of_pings = ends_of_pings
        self._cache: dict[MachineId, MachineState] = {}
        self._ticks = WaitingTicks()
        self._clock = clock
        self._retry_every = timedelta(seconds=limits.try_every_s)
        self._breaker = Breaker(limits)
        self.lookout = Lookout(metrics, look_every_s)

    async def prepare(self, batch: Batch) -> Work:
        decoded = decode_batch(batch)
        ticks = {
            one.slice.partition: command.received_at
            for one in decoded
            for command in one.commands
            if isinstance(command.content, TickSignal)
        }
        if ticks:
            ends = await self._ends_of_pings(ticks)
            for number, at in ticks.items():
                self._ticks.add(number, WaitingTick(at, ends[number]))
        if self._breaker.is_open and batch.size:
            self._breaker.tries(self._clock.monotonic_s())
        return Work(decoded, batch.alone, batch.poison is not None, at_most=0 if batch.alone else AT_ONCE)

    async def apply(self, connection: AsyncConnection, work: Work) -> None:
        await (self._apply_carefully(connection, work) if work.is_lone_turn else self._apply(connection, work))

    async def _apply_carefully(self, connection: AsyncConnection, work: Work) -> None:
        """As much of the turn as PostgreSQL takes; where it refuses the first record alone, that is a dead letter.

        Not while the breaker is open: then it is not the record's fault.
        """
        work.at_most = AT_ONCE
        while work.waiting_poison is None:
            try:
                async with connection.begin_nested():
                    await self._apply(connection, work)
                    return
            except DATABASE_ERRORS as error:
                if refusal_of(error) is not Refusal.DATA or self._breaker.is_open:
                    raise
                if work.at_most == 1:
                    work.waiting_poison = rejected(ErrorClass.INTERNAL, reason_of(error))
                work.at_most = max(1, work.at_most // 2)
        await self._apply(connection, work)

    async def _apply(self, connection: AsyncConnection, work: Work) -> None:
        work.trial = self._breaker.trial()
        desk = await self._desk(connection, work.decoded, work.trial)
        try:
            await self._decide(connection, desk, work)
        except HeldBack:
            self._open()
            raise
        await write(connection, desk, self._retry_every)
        await _keep_snapshots(connection, work)
        work.desk = desk

    async def _desk(self, connection: AsyncConnection, decoded: list[Decoded], trial: Trial) -> Desk:
        """A desk that knows what the batch's own records ask for."""
        wanted = {machine_id for one in decoded for machine_id in _machines_of(one)}
        desk = Desk(
            self._policies,
            self.weeks,
            self._partitions,
            states={machine_id: self._cache[machine_id] for machine_id in wanted if machine_id in self._cache},
            parked=await parked_machines(connection, [one.slice.partition for one in decoded]),
            trial=trial,
        )
        desk.remember(await load_states(connection, wanted - desk.states.keys()))
        repeats = await known_pings(connection, list(_possible_repeats(decoded, desk.states)))
        desk.know(repeats, await settled_commands(connection, _commands_of(decoded)))
        return desk

    async def _decide(self, connection: AsyncConnection, desk: Desk, work: Work) -> None:
        """What waits, oldest first; then the batch: of each partition the commands, then the pings; time comes last."""
        for one in work.decoded:
            if one.slice.reserved:
                turn = Turn(one, self._retry_every, work.at_most, work.waiting_poison)
                if not await (put_off if work.is_poisoned else try_again)(connection, desk, turn):
                    work.nothing_waits.append(one.slice.partition)
            registered = desk.obey(one)
            if registered:
                await take_up_registered(connection, desk, registered, one, work.at_most)
            desk.decide(one)
        work.ticks = await self._tick(connection, desk, work)

    def _open(self) -> None:
        self._breaker.opens(self._clock.monotonic_s())
        self._metrics.breaker_open.set(1)
        self._metrics.breaker_opened.inc()
        log.error("breaker open: too many records fail in the rules; nothing is stored until one comes through")

    def committed(self, work: Work) -> None:
        if work.desk is None:
            return
        if len(self._cache) > CACHED_MACHINES:
            self._cache.clear()
        self._cache.update((machine_id, work.desk.states[machine_id]) for machine_id in work.desk.touched)
        for number, tick in work.ticks:
            self._ticks.done(number, tick)
        for number in work.nothing_waits:
            self.lookout.done(number)
        for machine_id in work.desk.released:
            log.info("a parked machine goes on", machine_id=machine_id)
        self._metrics.count(work.desk)
        self._heed(work.desk, work.trial)

    def _heed(self, desk: Desk, trial: Trial | None) -> None:
        """The batch is stored: the breaker learns from it."""
        now_s = self._clock.monotonic_s()
        if trial is not None and self._breaker.stored(
            trial, desk.judged, passed=desk.passed, failed=desk.failures > 0, now_s=now_s
        ):
            self._metrics.breaker_open.set(0)
            log.warning("breaker closed: a record came through the rules")

    def dropped(self) -> None:
        self._cache.clear()
        self._ticks.clear()
        self.lookout.clear()

    def wants_turn(self) -> Mapping[int, int]:
        return dict.fromkeys(self._ticks.waiting(), 0) | dict.fromkeys(self.lookout.due, AT_ONCE)

    def takes(self) -> int | None:
        return self._breaker.takes(self._clock.monotonic_s())

    def held_because(self) -> str | None:
        return "the breaker is open: too many records fail in the rules" if self._breaker.is_open else None

    async def _tick(self, connection: AsyncConnection, desk: Desk, work: Work) -> list[tuple[int, WaitingTick]]:
        """Where PostgreSQL refuses something no tick is applied: it may be that, and there will be others."""
        used_up = []
        for one in work.decoded:
            number = one.slice.partition
            tick = self._ticks.ripe(number, one.slice.after[0])
            if tick is None:
                continue
            if not work.is_whole:
                used_up.append((number, tick))
                continue
            due = await due_machines(connection, number, tick.at, at_most=MACHINES_PER_TURN)
            desk.remember(await load_states(connection, set(due) - desk.states.keys()))
            desk.tick(due, tick.at, number)
            if len(due) < MACHINES_PER_TURN:
                used_up.append((number, tick))
        return used_up


async def _keep_snapshots(connection: AsyncConnection, work: Work) -> None:
    """Once a minute and partition, when its tick is used up: no ordinary batch pays for it."""
    last_seq = {one.slice.partition: one.slice.apply_seq + one.slice.size for one in work.decoded}
    for number, tick in work.ticks if work.is_whole else ():
        await take_snapshots(connection, number, tick.at, last_seq[number])


def _machines_of(one: Decoded) -> Iterator[MachineId]:
    for ping in one.pings:
        if not isinstance(ping.content, Rejected):
            yield ping.content.machine_id
    for command in one.commands:
        if not isinstance(command.content, Rejected | TickSignal):
            yield machine_of(command.content)


def _commands_of(decoded: list[Decoded]) -> list[tuple[MachineId, UUID]]:
    return [
        (machine_of(command.content), command.content.command_id)
        for one in decoded
        for command in one.commands
        if not isinstance(command.content, Rejected | TickSignal)
    ]


def _possible_repeats(decoded: list[Decoded], states: Mapping[MachineId, MachineState]) -> Iterator[PingKey]:
    """Pings not newer than all of their machine: with one writer per machine no other can be a repeat."""
    newest: dict[MachineId, datetime] = {}
    for one in decoded:
        for ping in one.pings:
            content = ping.content
            if isinstance(content, Rejected) or content.machine_id not in states:
                continue
            latest = newest.get(content.machine_id) or states[content.machine_id].newest_recorded_at
            if latest is not None and content.recorded_at <= latest:
                yield (content.machine_id, content.recorded_at, ping.dedupe)
            else:
                newest[content.machine_id] = content.recorded_at
