"""A Kafka in memory: logs with append times, a group coordinator, consumers and producers of one process each.

What it does like the real one is held to it by `test_broker_behaviour.py`; what it may do worse than the real one
usually does, it does whenever the seed says so: the two topics in any order, few records or many, late answers, acks
that never come, rebalances that a sleeping member learns of too late.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from msgspec import Struct

from tests.simulation.faults import Kind
from tests.simulation.group import HEARTBEAT_S, SESSION_S, Group
from tests.simulation.process import HURRY_S, Process
from tests.simulation.virtual_time import moment

EMPTY_POLL_S = 2.0
LOSE_THE_ACK = {Kind.LOST_ANSWER, Kind.LOST_REQUEST, Kind.SESSION_KILLED}


class SimRecord(Struct, frozen=True):
    """A `Record` as the broker keeps it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type: int = 1


class SimBroker:
    """The logs of all topics, and the consumer groups. `partitions` each, for every topic."""

    def __init__(self, rng: random.Random, partitions: int) -> None:
        self.rng = rng
        self.partitions = partitions
        self.down = False
        self.logs: dict[TopicPartition, list[SimRecord]] = defaultdict(list)
        self.groups: dict[str, Group] = {}
        self.on_their_way: set[asyncio.Task[bool]] = set()
        self._watching: dict[TopicPartition, list[asyncio.Future[None]]] = {}

    def append(
        self,
        place: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> int:
        """Writes one record; returns its offset."""
        log = self.logs[place]
        at = moment(asyncio.get_running_loop().time())
        timestamp = round(at.timestamp() * 1000)
        log.append(SimRecord(place.topic, place.partition, len(log), timestamp, key, value, tuple(headers)))
        for one in self._watching.pop(place, []):
            _wake(one)
        return len(log) - 1

    async def something_new(self, places: Iterable[TopicPartition], at_most_s: float) -> None:
        """Waits for the next record there."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        for place in places:
            self._watching.setdefault(place, []).append(news)
        late = loop.call_later(at_most_s, _wake, news)
        try:
            await news
        finally:
            late.cancel()

    def topic(self, name: str) -> list[SimRecord]:
        """All records of a topic, partition by partition."""
        return [record for number in range(self.partitions) for record in self.logs[TopicPartition(name, number)]]

    def group(self, name: str) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(self.rng, self.partitions, self.is_up)
        return self.groups[name]

    async def is_up(self) -> None:
        """Waits until the broker is there again."""
        while self.down:  # noqa: ASYNC110 - looks at the simulated network now and then
            await asyncio.sleep(0.05)

    def must_be_up(self) -> None:
        if self.down:
            raise KafkaConnectionError("the broker is down")


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class Clients:
    """The `Broker` of one process (stream/kafka.py): what it is given speaks to the simulated one."""

    def __init__(self, broker: SimBroker, process: Process) -> None:
        self._broker = broker
        self._process = process

    def group_member(self, group: str) -> Any:
        return SimConsumer(self._broker, self._process, group)

    def relay_producer(self) -> Any:
        return SimProducer(self._broker, self._process)


class SimConsumer:
    """Stands where an `AIOKafkaConsumer` of a group does."""

    def __init__(self, broker: SimBroker, process: Process, group: str) -> None:
        self._broker = broker
        self.process = process
        self._group = broker.group(group)
        self.name = process.name
        self.topics: tuple[str, ...] = ()
        self._listener: Any = None
        self._assigned: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._rejoining = False
        self._on_its_way: asyncio.Task[None] | None = None
        self._generation = 0
        self.closed = False

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.topics = tuple(topics)
        self._listener = listener

    async def start(self) -> None:
        await self.process.step("start")
        self._broker.must_be_up()
        self.process.at_death.append(self._lost)
        self.process.at_stall.append(self._asleep)
        self._group.join(self)

    async def stop(self) -> None:
        self.closed = True
        await self.process.step("stop")
        self._group.leave(self)
        await self._listener.on_partitions_revoked(set(self._assigned))
        self._assigned = set()

    def _asleep(self) -> None:
        """The process is stopped; the group finds out likewise."""
        asyncio.get_running_loop().call_later(self._session_left_s(), self._group.unheard, self)

    def _lost(self) -> None:
        """The process is dead; the group finds out when the session times out."""
        self._group.leave(self, after_s=self._session_left_s())

    def _session_left_s(self) -> float:
        """The session runs from the last heartbeat that arrived: of the latest, two may have got lost."""
        return SESSION_S - self._broker.rng.uniform(0, 3 * HEARTBEAT_S)

    def giving_up(self) -> "asyncio.Task[None]":
        """The member on its way into the next round; however many rounds begin meanwhile, it goes there once."""
        if self._on_its_way is None or self._on_its_way.done():
            self._on_its_way = self.process.start(self._give_up())
        return self._on_its_way

    async def _give_up(self) -> None:
        """At its next heartbeat it learns that the group is being handed out anew."""
        await asyncio.sleep(self._broker.rng.uniform(0, HEARTBEAT_S))
        await self.process.awake()
        self._rejoining = True
        await self._listener.on_partitions_revoked(set(self._assigned))
        await self.process.awake()
        self._assigned, self._positions, self._paused = set(), {}, set()

    async def receive(self, pairs: set[TopicPartition], generation: int) -> None:
        await self.process.step("assigned")
        if generation < self._generation:
            return
        self._generation = generation
        self._rejoining = False
        self._assigned, self._positions, self._paused = pairs, {}, set()
        await self._listener.on_partitions_assigned(set(pairs))

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._assigned)

    def pause(self, *pairs: TopicPartition) -> None:
        self._must_have(pairs)
        self._paused.update(pairs)

    def resume(self, *pairs: TopicPartition) -> None:
        self._must_have(pairs)
        self._paused.difference_update(pairs)

    def paused(self) -> frozenset[TopicPartition]:
        return frozenset(self._paused)

    def seek(self, pair: TopicPartition, offset: int) -> None:
        self._must_have([pair])
        self._positions[pair] = offset

    def _must_have(self, pairs: Iterable[TopicPartition]) -> None:
        for pair in pairs:
            if pair not in self._assigned:
                raise IllegalStateError(f"no assignment of {pair}")

    async def getmany(self, *, timeout_ms: int = 0, max_records: int | None = None) -> dict[TopicPartition, list[Any]]:
        """Some of what is there, of some partitions; an empty poll may last longer than it was asked to."""
        await self.process.step("getmany")
        found = self._take(max_records or 500)
        if not found and timeout_ms:
            await self._broker.something_new(self._assigned - self._paused, max(timeout_ms / 1000, EMPTY_POLL_S))
            await self.process.awake()
            found = self._take(max_records or 500)
        return found

    def _take(self, room: int) -> dict[TopicPartition, list[Any]]:
        if self._broker.down or self._rejoining:
            return {}
        rng, found = self._broker.rng, {}
        for pair in sorted(self._assigned - self._positions.keys()):
            if pair not in self._paused or rng.random() < 0.5:
                raise NoOffsetForPartitionError(pair)
        pairs = sorted(self._assigned - self._paused)
        rng.shuffle(pairs)
        for pair in pairs:
            position, log = self._positions[pair], self._broker.logs[pair]
            if position > len(log):
                raise OffsetOutOfRangeError({pair: position})
            ready = min(len(log) - position, room)
            if ready <= 0 or self.slow_to_fetch(rng):
                continue
            count = ready if rng.random() < 0.5 else rng.randint(1, ready)
            found[pair] = log[position : position + count]
            self._positions[pair] = position + count
            room -= count
        return found

    def slow_to_fetch(self, rng: random.Random) -> bool:
        """Whether this partition's answer is not there yet: so the two topics come in any order."""
        return not self.process.world.healed and rng.random() < 0.3

    async def position(self, pair: TopicPartition) -> int:
        return self._positions[pair]

    async def beginning_offsets(self, pairs: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        await self.process.step("ends")
        self._broker.must_be_up()
        return dict.fromkeys(pairs, 0)

    async def end_offsets(self, pairs: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        fault = await self.process.step("ends")
        self._broker.must_be_up()
        ends = {pair: len(self._broker.logs[pair]) for pair in pairs}
        await self.process.answered(fault)
        return ends

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self.process.step("hint")
        self._broker.must_be_up()
        if not self._group.has(self):
            raise CommitFailedError("not in the group")


class SimBatch:
    """Stands where aiokafka's `BatchBuilder` does."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = []
        self._closed = False

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: int | None, headers: list[tuple[str, bytes]]
    ) -> bool:
        if self._closed:
            return False
        self.records.append((key, value, headers))
        return True

    def close(self) -> None:
        self._closed = True


class SimProducer:
    """Stands where the relay's producer does: a batch arrives whole or not at all, and its ack may get lost."""

    def __init__(self, broker: SimBroker, process: Process) -> None:
        self._broker = broker
        self._process = process
        self._given_up = False

    async def start(self) -> None:
        await self._process.step("start")
        self._broker.must_be_up()

    async def stop(self) -> None:
        self._given_up = True

    async def abandon(self) -> None:
        self._given_up = True

    def create_batch(self) -> SimBatch:
        return SimBatch()

    async def partitions_for(self, _: str) -> set[int]:
        return set(range(self._broker.partitions))

    async def send_batch(self, batch: SimBatch, topic: str, *, partition: int) -> "asyncio.Task[None]":
        fault = await self._process.step("send")
        place = TopicPartition(topic, partition)
        on_its_way = asyncio.ensure_future(self._deliver(batch, place, fault))
        self._broker.on_their_way.add(on_its_way)
        on_its_way.add_done_callback(self._broker.on_their_way.discard)
        return self._process.start(self._ack(on_its_way))

    async def _deliver(self, batch: SimBatch, place: TopicPartition, fault: Any) -> bool:
        """The request on the network: it may arrive although its sender has died or given up meanwhile."""
        world = self._process.world
        await asyncio.sleep(world.rng.random() * HURRY_S)
        if self._broker.down:
            await self._broker.is_up()
            if self._given_up or not self._process.alive:
                return False
        if fault is not None and fault.kind is Kind.LOST_REQUEST:
            return False
        for key, value, headers in batch.records:
            self._broker.append(place, key, value, headers)
        return True

    async def _ack(self, on_its_way: "asyncio.Task[bool]") -> None:
        arrived = await asyncio.shield(on_its_way)
        fault = await self._process.step("ack")
        if not arrived or (fault is not None and fault.kind in LOSE_THE_ACK):
            raise KafkaTimeoutError("no ack")
        await self._process.answered(fault)
