"""One life of the house, from a seed: built, disturbed for half a minute of its own time, healed, drained, checked.

`live(seed)` is the same life every time and everywhere. What it returns says what was wrong at the end, if anything,
which faults came about, and everything that happened, line by line.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from msgspec import Struct

from telemetry_svc import topics
from telemetry_svc.store.schema import metadata
from telemetry_svc.stream import relay
from telemetry_svc.stream.kafka import partition_of
from tests.simulation.bad_rule import failing
from tests.simulation.broker import SimBroker
from tests.simulation.checks import problems_of
from tests.simulation.database import Database, Table
from tests.simulation.faults import BUSY, HEAL_S, IN_PAIRS, THEMES, Fault, Kind, Struck, draw, role_of
from tests.simulation.process import Process, Surroundings, Trace
from tests.simulation.roles import PARTITIONS, TICK_EVERY, House, life_of
from tests.simulation.situations import situations
from tests.simulation.uniqueness import open_reasons_once, open_task_once
from tests.simulation.virtual_time import BEGIN_S, run
from tests.simulation.workload import REFUSED_DEVICE, Sent, Workload, draw_workload

PATIENCE_S = 180.0
LOOK_EVERY_S = 0.5
ALWAYS = ("ingest-1", "relay-1", "notify-1", "schedule-1", "office-1")
OFTEN = ("ingest-2", "relay-2", "notify-2")


class Life(Struct, frozen=True):
    """`problems`: empty where all promises were kept. `faults`: what was in the list; `struck`: what came about."""

    seed: int
    theme: str
    problems: list[str]
    faults: list[Fault]
    struck: Struck
    trace: Trace


def nothing_broken() -> AbstractContextManager[Any]:
    """The service as it is."""
    return nullcontext()


def live(
    seed: int,
    faults: Sequence[Fault] | None = None,
    breaking: Callable[[], AbstractContextManager[Any]] = nothing_broken,
    theme: str | None = None,
) -> Life:
    """`faults`: another list than the seed's own; `theme`: another theme of it. `breaking`: makes the service a broken
    one for this life."""
    with breaking(), _unhurried(), structlog.testing.capture_logs() as said:
        return run(_live(seed, faults, said, theme))


@contextmanager
def _unhurried() -> Iterator[None]:
    """A relay that is not woken looks every other second: looking ten times tells no more and takes most of a life."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "POLL_S", 4.0)
        yield


async def _live(seed: int, faults: Sequence[Fault] | None, said: list[Any], theme: str | None) -> Life:
    rng = random.Random(seed)
    drawn_theme = rng.choice(THEMES)
    theme = theme or drawn_theme
    workload = draw_workload(rng, busy=theme in BUSY)
    actors = _actors(rng, workload.experts, theme)
    drawn = draw(rng, actors, theme)
    chosen = drawn if faults is None else list(faults)
    world = Surroundings(rng, list(chosen), Struck())
    house = _house(rng, workload)
    keeper = Keeper(world, house)
    with failing(workload.bad_rule):
        problems = await keeper.run(actors)
    problems += problems_of(house)
    world.struck += situations(house, said)
    return Life(seed, theme, problems, chosen, world.struck, world.trace)


def _actors(rng: random.Random, experts: int, theme: str) -> list[str]:
    """One process of each role, often a second; with experts comes who sweeps up their leases."""
    second = {actor for actor in OFTEN if rng.random() < (0.9 if role_of(actor) in IN_PAIRS.get(theme, ()) else 0.3)}
    desk = [f"expert-{number + 1}" for number in range(experts)]
    return [*ALWAYS, *sorted(second), *desk, *(["sweep-1"] if desk else [])]


def _house(rng: random.Random, workload: Workload) -> House:
    database = new_database(rng)
    database.refuses = lambda row: row.get("device_id") == REFUSED_DEVICE
    return House(database, SimBroker(rng, PARTITIONS), workload)


def new_database(rng: random.Random) -> Database:
    """An empty database with the tables of the service's schema and the 64 buckets."""
    database = Database(_tables(), rng)
    database.checks |= {"call_task": open_task_once, "call_reason": open_reasons_once}
    return database


def _tables() -> list[Table]:
    tables = []
    for table in metadata.sorted_tables:
        numbered = [column.name for column in table.columns if column.identity is not None]
        key = tuple(column.name for column in table.primary_key.columns)
        tables.append(Table(table.name, key, numbered[0] if numbered else None))
    return tables


class Keeper:
    """Keeps the processes of one life going, disturbs them by the list, and says when all is done."""

    def __init__(self, world: Surroundings, house: House) -> None:
        self._world = world
        self._house = house
        self._unknown: list[BaseException] = []
        self._sent_all = False
        self._running: list[asyncio.Future[None]] = []
        self._stops: dict[str, asyncio.Event] = {}

    async def run(self, actors: list[str]) -> list[str]:
        """Lives to the end; returns what is stuck then."""
        outages = [self._outage(fault) for fault in self._world.faults if not fault.nth]
        lives = [self._keep(actor) for actor in actors]
        self._running = [asyncio.ensure_future(one) for one in (*lives, self._send(), *outages)]
        await asyncio.sleep(HEAL_S)
        self._world.trace.note("", "--- healed")
        await asyncio.sleep(TICK_EVERY.total_seconds())
        if self._house.workload.bad_rule is not None:
            await self._caught_up()
        self._house.closing = True
        return await self._drained()

    async def _keep(self, actor: str) -> None:
        """Starts the process again whenever it has ended."""
        while not self._house.closing or actor.startswith(("ingest", "relay", "notify", "office")):
            process, stop = Process(actor, self._world), asyncio.Event()
            self._stops[actor] = stop
            self._world.trace.note(actor, "starts")
            life = process.start(life_of(self._house, actor)(process, stop))
            await asyncio.wait([life])
            self._world.trace.note(actor, "ended")
            process.kill()  # whatever it has left behind
            if not life.cancelled() and life.exception() is not None:
                self._unknown.append(life.exception())  # type: ignore[arg-type]
                return
            self._house.ingests.pop(actor, None)
            await asyncio.sleep(self._world.rng.uniform(0.3, 2))

    async def _send(self) -> None:
        """The devices; the journal of what they sent is the broker's own log."""
        for sent in self._house.workload.sent:
            await _until(sent.at_s)
            await self._may_send(sent)
            number = partition_of(sent.key or b"", PARTITIONS)
            self._house.broker.append(TopicPartition(topics.PINGS, number), sent.key, sent.value)
        self._sent_all = True

    async def _may_send(self, sent: Sent) -> None:
        states = self._house.database.tables["machine_state"].rows
        machine_id = sent.after_registration_of
        while self._house.broker.down or (  # noqa: ASYNC110 - a device tries now and then
            machine_id is not None and (machine_id,) not in states
        ):
            await asyncio.sleep(LOOK_EVERY_S)

    async def _outage(self, fault: Fault) -> None:
        await _until(fault.at_s)
        self._world.strikes(fault.kind, fault.actor)
        match fault.kind:
            case Kind.DATABASE_DOWN:
                self._house.database.stop()
                await asyncio.sleep(fault.for_s)
                self._house.database.start()
            case Kind.BROKER_DOWN:
                self._house.broker.down = True
                await asyncio.sleep(fault.for_s)
                self._house.broker.down = False
            case Kind.LEAVE:
                self._stops[fault.actor].set()
            case Kind.WAKE_LOST:
                self._house.database.is_heard = False
                await asyncio.sleep(fault.for_s)
                self._house.database.is_heard = True
            case kind:
                raise ValueError(f"{kind} strikes at a step")

    async def _caught_up(self) -> None:
        """Until nobody is parked and time has passed once more: a tick passes over who is parked."""
        for _ in range(int(PATIENCE_S / LOOK_EVERY_S)):
            if not self._house.database.committed("parked_machine"):
                break
            await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.sleep(2 * TICK_EVERY.total_seconds())

    async def _drained(self) -> list[str]:
        """Waits until everything sent is applied and everything decided is told; what is not, is stuck."""
        gives_up_s = asyncio.get_running_loop().time() + PATIENCE_S
        waiting = self._waiting()
        while waiting and not self._unknown:
            if asyncio.get_running_loop().time() > gives_up_s:
                return [f"stuck: {one}" for one in waiting]
            await asyncio.sleep(LOOK_EVERY_S)
            waiting = self._waiting()
        return [f"a process ended by {error!r}" for error in self._unknown]

    def _waiting(self) -> list[str]:
        waiting = [] if self._sent_all else ["not everything is sent yet"]
        waiting += self._unread(topics.INGEST_GROUP, (topics.PINGS, topics.COMMANDS))
        waiting += self._unread(topics.NOTIFY_GROUP, (topics.MAINTENANCE_DUE, topics.ANOMALY))
        unsent = sum(row["sent_at"] is None for row in self._house.database.committed("outbox"))
        if unsent:
            waiting.append(f"{unsent} rows in the outbox")
        known = {row["id"] for row in self._house.database.committed("command")}
        waiting += [
            f"command {one.command.command_id}"
            for one in self._house.workload.errands
            if one.command.command_id not in known
        ]
        waiting += [f"a tick of {number}" for number in self._house.ticks_waiting()]
        waiting += [f"parked: {row['machine_id']}" for row in self._house.database.committed("parked_machine")]
        return waiting

    def _unread(self, group: str, names: tuple[str, str]) -> list[str]:
        owners = self._house.database.tables["partition_owner"].rows
        waiting = []
        for number in range(PARTITIONS):
            row = owners.get((group, number), {"next_offset_a": 0, "next_offset_b": 0})
            for name, column in zip(names, ("next_offset_a", "next_offset_b"), strict=True):
                end = len(self._house.broker.logs[TopicPartition(name, number)])
                if row[column] < end:
                    waiting.append(f"{name} {number}: read to {row[column]} of {end}")
        return waiting


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, BEGIN_S + at_s - asyncio.get_running_loop().time()))
