"""The roles of the house, built of the service's own parts over the simulated database and broker.

Nothing that the service decides is copied: consumer, handlers, desk, rules, relay, notifier, claims and scheduler are
the real ones. What they commit is noted in the transaction itself, so that the checker knows in what order it happened
even where the process never learned that it did.
"""

import asyncio
import functools
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from msgspec import Struct
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.api.command_outbox import submit
from telemetry_svc.calls import ExpertId
from telemetry_svc.events import Alert
from telemetry_svc.ingest.breaker import BreakerLimits
from telemetry_svc.ingest.handler import IngestHandler, Work
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.ingest.ticks import WaitingTick
from telemetry_svc.notify.claims import CallDesk, Holder
from telemetry_svc.notify.handler import NotifyHandler
from telemetry_svc.notify.handler import Work as AlertWork
from telemetry_svc.notify.notifier import Notifier
from telemetry_svc.notify.queues import Queues
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring
from telemetry_svc.rules import Policy
from telemetry_svc.schedule import Scheduler
from telemetry_svc.store import commands, machines
from telemetry_svc.store.call_claims import Claimant, Lease
from telemetry_svc.store.call_outcomes import Told, Words
from telemetry_svc.store.history import weeks_around
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.store.schema.registry import contact
from telemetry_svc.stream.batch import Record
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.metrics import ConsumerFamilies, ConsumerMetrics, RelayMetrics
from telemetry_svc.stream.relay import OutboxRelay
from telemetry_svc.telemetry import EditionId, Machine, MachineId, Registration
from tests.simulation.broker import Clients, SimBroker
from tests.simulation.connection import FakeConnection, FakeEngine
from tests.simulation.database import Database, Row
from tests.simulation.faults import role_of
from tests.simulation.process import Process
from tests.simulation.virtual_time import BEGIN_S, START, LoopClock
from tests.simulation.workload import EDITION, Errand, Workload

PARTITIONS = 2
TICK_EVERY = timedelta(seconds=8)
LEASE_S = 4.0
TRY_EVERY_S = 2.0
ASLEEP_S = 1.0
SWEEP_EVERY_S = 5.0


class IngestNote(Struct, frozen=True):
    """What one committed transaction of ingest applied, and the ticks it used up."""

    by: str
    work: Work
    ticks: list[tuple[int, WaitingTick]]


class NotifyNote(Struct, frozen=True):
    """What one committed transaction of notify applied."""

    by: str
    records: list[Record]
    alerts: list[Alert]


class NotedIngest(IngestHandler):
    """Ingest's own handler, and what it applied noted with the transaction."""

    by = ""

    async def apply(self, connection: AsyncConnection, work: Work) -> None:
        await super().apply(connection, work)
        cast(FakeConnection, connection).note(IngestNote(self.by, work, work.ticks))


class NotedNotify(NotifyHandler):
    """Notify's own handler, likewise."""

    by = ""

    async def apply(self, connection: AsyncConnection, work: AlertWork) -> None:
        await super().apply(connection, work)
        cast(FakeConnection, connection).note(NotifyNote(self.by, work.records, work.alerts))


@functools.cache
def policies() -> Mapping[EditionId, Policy]:
    """The editions, loaded once."""
    return load_policies(None)


@functools.cache
def counters() -> tuple[ConsumerFamilies, IngestMetrics, RelayMetrics]:
    """Metrics are counted and never looked at here: one set for all lives."""
    registry = CollectorRegistry()
    return ConsumerFamilies(registry), IngestMetrics(registry), RelayMetrics(registry)


@functools.cache
def queues() -> Queues:
    return Queues({edition: policy.call_queue for edition, policy in policies().items()}, EDITION)


def new_desk() -> CallDesk:
    """The desk where calls are claimed, with a key that is no secret."""
    return CallDesk(queues(), Keyring.parse(KEYS))


class LeaseWatch:
    """Looks at every committed change of a task for a lease given while another one holds."""

    def __init__(self, database: Database, clock: LoopClock) -> None:
        self.problems: list[str] = []
        self._clock = clock
        database.watches["call_task"].append(self._changed)

    def _changed(self, before: Row | None, after: Row | None) -> None:
        if before is None or after is None or before["state"] != "claimed" or after["state"] != "claimed":
            return
        if before["lease_token"] != after["lease_token"] and before["lease_expires_at"] > self._clock.now():
            self.problems.append(f"double_leased: {after['task_id']} to {before['leased_to']} and {after['leased_to']}")


class House:
    """Database and broker of one life, and how each role's process lives on them."""

    def __init__(self, database: Database, broker: SimBroker, workload: Workload) -> None:
        self.database = database
        self.broker = broker
        self.workload = workload
        self.clock = LoopClock()
        self.calls = new_desk()
        self.ingests: dict[str, tuple[FencedConsumer, IngestHandler]] = {}
        self.closing = False
        self.leases = LeaseWatch(database, self.clock)

    def parked_once(self) -> MachineId | None:
        """The machine at which the rules fail for a while: it catches up by itself, and in its own time."""
        return None if self.workload.bad_rule is None else self.workload.bad_rule.machine_id

    def ticks_waiting(self) -> set[int]:
        """Partitions whose owner has not come to their tick yet. Of a partition that is no longer his he may keep one:
        it came while he lost it, and does no harm."""
        return {
            number
            for member, handler in self.ingests.values()
            for number, reserved in handler.wants_turn().items()
            if reserved == 0 and number in member.owned
        }

    def contacts_of(self, machine_id: str) -> int:
        """How many numbers there are to call about a machine."""
        return sum(row["machine_id"] == machine_id for row in self.database.committed("contact"))

    def engine(self, process: Process) -> AsyncEngine:
        return cast(AsyncEngine, FakeEngine(self.database, process))

    async def ingest(self, process: Process, stop: asyncio.Event) -> None:
        families, ingested, _ = counters()
        handler = NotedIngest(
            policies=policies(),
            partitions=PARTITIONS,
            weeks=weeks_around(START),
            metrics=ingested,
            ends_of_pings=lambda numbers: member.ends_of_first(numbers),  # noqa: PLW0108 - each needs the other
            clock=self.clock,
            limits=BreakerLimits(try_every_s=TRY_EVERY_S),
            look_every_s=TRY_EVERY_S,
        )
        handler.by = process.name
        member = FencedConsumer(
            kafka=Clients(self.broker, process),
            engine=self.engine(process),
            group=topics.INGEST_GROUP,
            topics=(topics.PINGS, topics.COMMANDS),
            handler=handler,
            metrics=ConsumerMetrics(families, topics.INGEST_GROUP),
        )
        self.ingests[process.name] = (member, handler)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(member.run(stop))
            if self.workload.bad_rule is not None:
                loops.create_task(handler.lookout.watch(self.engine(process), stop))

    async def notify(self, process: Process, stop: asyncio.Event) -> None:
        families, _, _ = counters()
        handler = NotedNotify(Notifier(queues()), self.clock)
        handler.by = process.name
        member = FencedConsumer(
            kafka=Clients(self.broker, process),
            engine=self.engine(process),
            group=topics.NOTIFY_GROUP,
            topics=(topics.MAINTENANCE_DUE, topics.ANOMALY),
            handler=handler,
            metrics=ConsumerMetrics(families, topics.NOTIFY_GROUP),
        )
        await member.run(stop)

    async def relay(self, process: Process, stop: asyncio.Event) -> None:
        _, _, relayed = counters()
        relay = OutboxRelay(kafka=Clients(self.broker, process), engine=self.engine(process), metrics=relayed)
        self.database.on_notify.append(relay.wake.set)
        process.at_death.append(lambda: self.database.on_notify.remove(relay.wake.set))
        await relay.run(stop)

    async def schedule(self, process: Process, stop: asyncio.Event) -> None:
        scheduler = Scheduler(self.engine(process), self.clock, PARTITIONS, TICK_EVERY)
        while not stop.is_set() and not self.closing:
            await scheduler.turn()
            await asyncio.sleep(TICK_EVERY.total_seconds() * 0.6)

    async def sweep(self, process: Process, stop: asyncio.Event) -> None:
        engine = self.engine(process)
        while not stop.is_set() and not self.closing:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                async with engine.begin() as connection:
                    await self.calls.sweep(connection)
            except DATABASE_ERRORS:
                continue

    async def office(self, process: Process, stop: asyncio.Event) -> None:
        """Registers and commands, each until it is sure that it is written; a killed office begins anew."""
        engine = self.engine(process)
        for errand in self.workload.errands:
            await asyncio.sleep(max(0.0, errand.at_s + BEGIN_S - asyncio.get_running_loop().time()))
            while not await self._ran(engine, errand):  # noqa: ASYNC110 - it tries again after a while
                await asyncio.sleep(ASLEEP_S)
        await stop.wait()

    async def _ran(self, engine: AsyncEngine, errand: Errand) -> bool:
        try:
            async with engine.begin() as connection:
                if await commands.get(connection, errand.command.command_id) is None:
                    if isinstance(errand.command, Registration):
                        await register_machine(connection, errand.command.machine, errand.contacts)
                    await submit(connection, [errand.command])
        except DATABASE_ERRORS:
            return False
        return True

    async def expert(self, process: Process, stop: asyncio.Event) -> None:
        """Claims what is offered, and reports, gives back, or forgets it."""
        engine, rng = self.engine(process), process.world.rng
        while not stop.is_set() and not self.closing:
            await asyncio.sleep(rng.uniform(0.3, 6))
            try:
                async with engine.begin() as connection:
                    leases = await self.calls.claim(connection, Claimant(ExpertId(process.name)), 2, LEASE_S)
                if isinstance(leases, list):
                    for lease in leases:
                        await self._work_on(engine, rng, lease)
            except DATABASE_ERRORS:
                continue

    async def _work_on(self, engine: AsyncEngine, rng: random.Random, lease: Lease) -> None:
        await asyncio.sleep(rng.uniform(0, LEASE_S * 1.5))
        task_id, holder, what = lease.task.task_id, Holder(str(lease.token)), rng.random()
        async with engine.begin() as connection:
            if what < 0.5:
                told = Told(rng.choice(("answered_info", "no_answer", "answered_booked")), Words())
                await self.calls.settle(connection, task_id, holder, told, None)
            elif what < 0.7:
                await self.calls.release(connection, task_id, holder)
            elif what < 0.8:
                await self.calls.renew(connection, task_id, holder, LEASE_S)


KEYS = f"index:{'A' * 43}=,simulation:{'A' * 43}="


async def register_machine(connection: AsyncConnection, machine: Machine, contacts: int) -> None:
    """The rows that a registration over HTTP writes; names and numbers are boxes with nothing in them."""
    await machines.insert_new(connection, [MachineRow(machine, START, START)])
    boxes = [
        {"machine_id": machine.machine_id, "ordinal": ordinal, "key_id": "k", "sealed": b"", "phone_index": b"p"}
        for ordinal in range(contacts)
    ]
    if boxes:
        await connection.execute(contact.insert(), boxes)


def life_of(house: House, name: str) -> Any:
    """The life of a process by its name, as `ingest-1`."""
    return getattr(house, role_of(name))
