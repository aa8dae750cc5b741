"""Ingest's own handler on the real database, with the broker's clock in the test's hand.

Records come as the broker would give them, commands of a batch before its pings, a tick at each minute that has
something to decide. What Kafka adds (fetching, rebalances) is tested in tests/stream; here months pass in a second.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.codec import command as command_codec
from telemetry_svc.ingest.handler import IngestHandler
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.replay import Asked, NotReplayed, Replayed, replay_machine
from telemetry_svc.rules import Policy
from telemetry_svc.store.history import make_weeks, weeks_around
from telemetry_svc.store.parked import waiting_to_be_tried
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, reason_of, refusal_of
from telemetry_svc.stream.batch import Batch, Slice
from telemetry_svc.telemetry import Command, EditionId, MachineId, Ping
from telemetry_svc.units import hours_from

MINUTE = timedelta(minutes=1)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
IN_NOVEMBER = datetime(2026, 11, 22, tzinfo=UTC)
"""History of these tests, whenever they run: 400 days before it and two after."""

TABLES = (
    "ping",
    "ping_outlier",
    "machine_state",
    "machine_snapshot",
    "event",
    "command",
    "dead_letter",
    "parked_machine",
    "held_record",
    "outbox",
)


@dataclass(frozen=True)
class Record:
    """As aiokafka gives it; `timestamp` is the append time in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type: int = 1


@dataclass(frozen=True)
class Arrival:
    """A ping or a command on its way in, and when the broker appends it."""

    at: datetime
    machine_id: str
    value: bytes
    is_command: bool = False


def arrival(given: Ping | Command, at: datetime) -> Arrival:
    if isinstance(given, Ping):
        return Arrival(at, given.machine_id, msgspec.json.encode(_json(given)))
    return Arrival(at, command_codec.machine_of(given), command_codec.encode(given), is_command=True)


def _json(ping: Ping) -> dict[str, Any]:
    body: dict[str, Any] = {name: value for name, value in msgspec.to_builtins(ping).items() if value is not None}
    hours = body.pop("hour_meter_ch", None)
    return body if hours is None else body | {"hour_meter_h": hours_from(hours)}


@dataclass(repr=False)
class Lane:
    """One partition and its owner."""

    engine: AsyncEngine
    policies: Mapping[EditionId, Policy]
    handler: IngestHandler = field(init=False)
    offsets: dict[str, int] = field(default_factory=lambda: {topics.PINGS: 0, topics.COMMANDS: 0})
    apply_seq: int = 0
    now: datetime = LONG_AGO

    async def begin(self) -> None:
        """Nothing has happened yet."""
        self.offsets = dict.fromkeys(self.offsets, 0)
        self.apply_seq, self.now = 0, LONG_AGO
        weeks = weeks_around(IN_NOVEMBER)
        async with self.engine.begin() as connection:
            await make_weeks(connection, weeks)
            for table in TABLES:
                await connection.execute(text(f"DELETE FROM {table}"))
        self.handler = IngestHandler(
            policies=self.policies,
            partitions=1,
            weeks=weeks,
            metrics=IngestMetrics(CollectorRegistry()),
            ends_of_pings=self._ends,
        )

    async def _ends(self, partitions: Collection[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, self.offsets[topics.PINGS])

    async def feed(self, arrivals: Iterable[Arrival]) -> None:
        """In order of `at`; what comes within one minute is one batch, and ticks come between the minutes."""
        for minute, together in groupby(arrivals, lambda one: _minute(one.at)):
            await self.pass_time(minute)
            await self.batch(list(together))

    async def pass_time(self, until: datetime) -> None:
        """The ticks up to `until` that decide something."""
        while (due := await self._next_check_at()) is not None and (tick := _ceil(due)) <= until:
            await self.batch([], tick)
        self.now = max(self.now, until)

    async def turn(self) -> None:
        """What waits to be tried again is tried, until there is nothing more that is due."""
        await self.execute("UPDATE parked_machine SET next_try_at = now()")
        self.handler.lookout.due = frozenset({0})
        while self.handler.lookout.due:
            await self.batch([])

    async def look(self) -> None:
        """What the lookout finds is tried, until it finds nothing that is due."""
        while due := await self._due():
            self.handler.lookout.due = due
            while self.handler.lookout.due:
                await self.batch([])

    async def _due(self) -> frozenset[int]:
        async with self.engine.connect() as connection:
            return (await waiting_to_be_tried(connection, [topics.PINGS, topics.COMMANDS])).partitions

    async def turn_once(self, poison: str | None = None) -> None:
        """One transaction of it."""
        self.handler.lookout.due = frozenset({0})
        await self.batch([], poison=poison)

    async def batch(self, arrivals: list[Arrival], tick: datetime | None = None, poison: str | None = None) -> None:
        """One batch as the consumer would store it: in one transaction, or cut down where PostgreSQL refuses it."""
        before = self._next_offsets()
        commands = [self._record(topics.COMMANDS, one) for one in arrivals if one.is_command]
        pings = [self._record(topics.PINGS, one) for one in arrivals if not one.is_command]
        if tick is not None:
            value = command_codec.encode_tick(tick)
            commands.append(self._put(topics.COMMANDS, None, value, tick))
        reserved = self.handler.wants_turn().get(0, 0)
        self.apply_seq += reserved
        one = Slice(0, 1, before, self._next_offsets(), list(pings), list(commands), self.apply_seq, reserved)
        self.apply_seq += one.size
        await self._store(Batch((one,), 1, poison))

    async def _store(self, batch: Batch) -> None:
        work = await self.handler.prepare(batch)
        try:
            async with self.engine.begin() as connection:
                await connection.execute(text("SELECT 1"))  # the fence's place: COPY must not be first
                await self.handler.apply(connection, work)
        except DATABASE_ERRORS as error:
            if refusal_of(error) is not Refusal.DATA or batch.poison is not None:
                raise
            self.handler.dropped()
            for part in batch.parts(reason_of(error)):
                await self._store(part)
        else:
            self.handler.committed(work)

    async def replay(self, machine_id: str, **asked: Any) -> Replayed | NotReplayed:
        """A dry run from long ago by the same policies, unless asked otherwise."""
        defaults: dict[str, Any] = {"since": LONG_AGO, "now": self.now, "policies": self.policies, "dry_run": True}
        return await replay_machine(self.engine, MachineId(machine_id), Asked(**(defaults | asked)))

    async def replayed(self, machine_id: str, **asked: Any) -> Replayed:
        outcome = await self.replay(machine_id, **asked)
        assert isinstance(outcome, Replayed), outcome
        return outcome

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql), values)]

    async def execute(self, sql: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(sql), values)

    async def facts(self, machine_id: str) -> list[str]:
        """`rule subject stage` of every stored fact, in order."""
        query = "SELECT rule || ' ' || subject || ' ' || stage FROM event WHERE machine_id = :machine_id ORDER BY n"
        return [row[0] for row in await self.rows(query, machine_id=machine_id)]

    async def _next_check_at(self) -> datetime | None:
        """Of a machine that is parked no tick decides anything."""
        free = "machine_id NOT IN (SELECT machine_id FROM parked_machine)"
        moment: datetime | None = (await self.rows(f"SELECT min(next_check_at) FROM machine_state WHERE {free}"))[0][0]
        return moment

    def _record(self, topic: str, one: Arrival) -> Record:
        return self._put(topic, one.machine_id.encode(), one.value, one.at)

    def _put(self, topic: str, key: bytes | None, value: bytes, at: datetime) -> Record:
        offset = self.offsets[topic]
        self.offsets[topic] += 1
        return Record(topic, 0, offset, round(at.timestamp() * 1000), key, value)

    def _next_offsets(self) -> tuple[int, int]:
        return self.offsets[topics.PINGS], self.offsets[topics.COMMANDS]


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _ceil(moment: datetime) -> datetime:
    return moment if moment == _minute(moment) else _minute(moment) + MINUTE
