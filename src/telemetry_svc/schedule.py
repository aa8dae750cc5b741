"""What happens by the clock, once per slot of time, whoever gets to it (design.md, decision 14).

APScheduler wakes us; two rows decide. The lease says who leads, under a term that every write checks; the slot's own
row, written in the transaction of its work, is the right to do it. So any number of schedulers may run, one may die or
sleep at any point, and a slot that was missed is done once, late: of several only the newest, for none of our
schedules owes anything to the others. A tick, a week of history made ahead: the newest stands for all before it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.clock import Clock
from telemetry_svc.codec.command import encode_tick
from telemetry_svc.logs import Trouble
from telemetry_svc.store import lease as leases
from telemetry_svc.store.history import make_weeks, weeks_around
from telemetry_svc.store.lease import Lease, LeaseLostError
from telemetry_svc.store.outbox import OutboxMessage, enqueue
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.store.slots import drop_sent, take_slot

log = structlog.get_logger(__name__)

TICK_EVERY = timedelta(minutes=1)
WEEKS_EVERY = timedelta(hours=1)
SENT_ROWS_KEPT = timedelta(days=1)
LEASE_NAME = "schedule"
LEASE_S = 15.0
TURN_EVERY_S = 5.0
FAILURES: tuple[type[Exception], ...] = (LeaseLostError, *DATABASE_ERRORS)
_LATENESS_S = (1, 5, 10, 30, 60, 300, 3_600, 86_400)


class ScheduleMetrics:
    """Slots done, how late, and who leads. A registry of its own where nobody asks for the figures."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        labels = ("schedule",)
        self.slots = Counter("telemetry_schedule_slots", "Slots done by this process", labels, registry=registry)
        self.late_s = Histogram(
            "telemetry_schedule_lateness_seconds",
            "From the beginning of a slot until it was done",
            labels,
            registry=registry,
            buckets=_LATENESS_S,
        )
        self.leads = Gauge("telemetry_schedule_leads", "1 while this process leads", registry=registry)


class Schedule(Struct, frozen=True):
    """What is done once in each slot of `every`. `work` gets the slot's beginning, and now; True: more of it is left,
    which is done in transactions of their own."""

    name: str
    every: timedelta
    work: Callable[[AsyncConnection, datetime, datetime], Awaitable[bool]]

    def slot(self, now: datetime) -> datetime:
        return now - timedelta(seconds=now.timestamp() % self.every.total_seconds())


class Leadership:
    """Our own view of the lease: given up at a deadline of our own clock, which began before we asked."""

    def __init__(self, engine: AsyncEngine, clock: Clock, holder: UUID, lease_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._holder = holder
        self._lease_s = lease_s
        self._lease: Lease | None = None
        self._until_s = 0.0

    @property
    def lease(self) -> Lease | None:
        """The lease while it is ours beyond doubt."""
        return self._lease if self._clock.monotonic_s() < self._until_s else None

    async def seek(self) -> Lease | None:
        """Renews the lease, or takes it where it is free. Raises what the database raises."""
        asked_at_s = self._clock.monotonic_s()
        mine, self._lease = self.lease, None
        async with self._engine.begin() as connection:
            if mine is not None and not await leases.renew(connection, mine, self._lease_s):
                mine = None
            mine = mine or await leases.take(connection, LEASE_NAME, self._holder, self._lease_s)
        self._lease, self._until_s = mine, asked_at_s + self._lease_s
        return mine

    def step_down(self) -> None:
        """Whatever went wrong: no write before the lease was sought again."""
        self._lease = None

    async def retire(self) -> None:
        """Lets another one lead at once. Raises what the database raises."""
        mine, self._lease = self._lease, None
        if mine is not None:
            async with self._engine.begin() as connection:
                await leases.release(connection, mine)


class Scheduler:
    """Does the slots of the schedules that `schedules` lists, while it leads."""

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Clock,
        partitions: int,
        tick_every: timedelta = TICK_EVERY,
        *,
        metrics: ScheduleMetrics | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._partitions = partitions
        self._metrics = metrics or ScheduleMetrics()
        self._leadership = Leadership(engine, clock, uuid4(), lease_s)
        self._lease_s = lease_s
        self._turning = asyncio.Lock()
        self._done: dict[str, datetime] = {}
        self._left: frozenset[str] = frozenset()
        self.schedules: tuple[Schedule, ...] = (
            Schedule("tick", tick_every, self._tick),
            Schedule("weeks", WEEKS_EVERY, _make_room),
            Schedule("clearing", TICK_EVERY, _clear_up),
        )
        self._trouble = Trouble(log)

    async def run(self, stop: asyncio.Event) -> None:
        """Turns until `stop` is set, then lets another one lead."""
        ticker = AsyncIOScheduler(timezone="UTC")
        ticker.add_job(
            self._ticked,
            "interval",
            seconds=min(self.schedules[0].every.total_seconds() / 2, TURN_EVERY_S),
            next_run_time=self._clock.now(),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        ticker.start()
        try:
            await stop.wait()
            ticker.pause()
            async with self._turning:  # a turn in hand is waited for
                pass
        finally:
            ticker.shutdown(wait=False)
        await self.retire()

    async def _ticked(self) -> None:
        with suppress(asyncio.CancelledError):  # we were cut off; APScheduler would log that with a trace
            await self.turn()

    async def retire(self) -> None:
        """Gives the lease up; without a database it runs out by itself."""
        try:
            await self._leadership.retire()
        except DATABASE_ERRORS as error:
            log.info("the lease runs out by itself", reason=type(error).__name__)

    async def turn(self) -> None:
        """Does the slots of now that nobody has done; never raises, for the next turn does what this one could not."""
        async with self._turning:
            try:
                if await self._leadership.seek() is not None:
                    for schedule in self.schedules:
                        await self._do(schedule)
            except FAILURES as error:
                self._leadership.step_down()
                self._trouble.lasts("stepped down, trying again", reason=type(error).__name__)
            else:
                self._trouble.over()
            self._metrics.leads.set(self._leadership.lease is not None)

    async def _do(self, schedule: Schedule) -> None:
        now = self._clock.now()
        slot = schedule.slot(now)
        ends_at_s = self._clock.monotonic_s() + self._lease_s / 3  # the lease must be renewed, the next tick is due
        if self._done.get(schedule.name) != slot:
            await self._begin(schedule, slot, now)
        while schedule.name in self._left and self._clock.monotonic_s() < ends_at_s:
            async with self._leading() as connection:
                await self._work(schedule, connection, slot, now)

    async def _begin(self, schedule: Schedule, slot: datetime, now: datetime) -> None:
        async with self._leading() as connection:
            ours = await take_slot(connection, schedule.name, slot)
            if ours:
                await self._work(schedule, connection, slot, now)
        self._done[schedule.name] = slot
        if ours:
            self._metrics.slots.labels(schedule.name).inc()
            self._metrics.late_s.labels(schedule.name).observe((self._clock.now() - slot).total_seconds())

    @asynccontextmanager
    async def _leading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that ends without effect where somebody else leads. Raises `LeaseLostError`."""
        lease = self._leadership.lease
        if lease is None:
            raise LeaseLostError("our own clock says that the lease has run out")
        async with self._engine.begin() as connection:
            await leases.hold(connection, lease)
            yield connection

    async def _work(self, schedule: Schedule, connection: AsyncConnection, slot: datetime, now: datetime) -> None:
        more = await schedule.work(connection, slot, now)
        self._left = self._left | {schedule.name} if more else self._left - {schedule.name}

    async def _tick(self, connection: AsyncConnection, slot: datetime, _now: datetime) -> bool:
        value = encode_tick(slot)
        ticks = [OutboxMessage(topics.COMMANDS, None, value, partition=number) for number in range(self._partitions)]
        await enqueue(connection, ticks)
        return False


async def _make_room(connection: AsyncConnection, _slot: datetime, now: datetime) -> bool:
    await make_weeks(connection, weeks_around(now + WEEKS_EVERY))
    return False


async def _clear_up(connection: AsyncConnection, _slot: datetime, now: datetime) -> bool:
    return await drop_sent(connection, now - SENT_ROWS_KEPT)
