"""A consumer group member whose only memory of progress is PostgreSQL (design.md, decisions 1, 2, 3, 10).

Two co-partitioned topics are read together. Each batch becomes one transaction whose first statement is the fence; the
next batch is fetched and decoded while that transaction runs. Whatever goes wrong, the way back is the same: forget
everything, take the partitions over again under a new epoch, seek to the offsets PostgreSQL tells, go on.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import pause
from telemetry_svc.logs import CALM_S, Trouble
from telemetry_svc.store.ownership import FencedError, Owned, advance
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, reason_of, refusal_of
from telemetry_svc.stream.batch import Batch, HeldBack, Slice
from telemetry_svc.stream.handler import Handler
from telemetry_svc.stream.hints import OffsetHints
from telemetry_svc.stream.holding import Holding
from telemetry_svc.stream.kafka import BROKER_TIMEOUT_S, FETCH_WAIT_MS, Broker
from telemetry_svc.stream.lenient import UNREADABLE, read_leniently
from telemetry_svc.stream.metrics import ConsumerMetrics
from telemetry_svc.stream.takeover import Takeover, note_gap

log = structlog.get_logger(__name__)

MAX_RECORDS = 5_000
QUIESCE_S = 10.0
CANCEL_S = 2.0
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
FENCED_WAIT_S = 3.0
"""Longer than a heartbeat: a zombie learns that it was put out of the group before it takes anything over again."""

NO_ENDS: Mapping[TopicPartition, int] = {}

TRANSIENT_ERRORS: tuple[type[Exception], ...] = (KafkaError, *DATABASE_ERRORS)


class FencedConsumer:
    """One member of `group` on two co-partitioned topics. `run` returns when `stop` is set.

    `held_back` says why nothing may be read now, if there is a reason (`stream.pressure`).
    """

    def __init__(
        self,
        *,
        kafka: Broker,
        engine: AsyncEngine,
        group: str,
        topics: tuple[str, str],
        handler: Handler[Any],
        metrics: ConsumerMetrics,
        max_records: int = MAX_RECORDS,
        held_back: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._group = group
        self._topics = topics
        self._handler = handler
        self._metrics = metrics
        self._max_records = max_records
        self._consumer = kafka.group_member(group)
        self._takeover = Takeover(engine, self._consumer, group, topics, metrics)
        self._held_back = held_back
        self._holding = Holding(self._consumer, group)
        self._hints = OffsetHints(self._consumer, group)
        self._positions: dict[int, Owned] = {}
        self._handed: dict[TopicPartition, int] = {}
        self._generation = 0
        self._paused = False
        self._wanted: set[int] = set()
        self._ahead: tuple[Batch, Any] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._failures = 0
        self.trouble: str | None = None
        self._told = Trouble(log, calm_s=CALM_S)
        self.progress_at = time.monotonic()

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that this member may store now."""
        return frozenset(self._positions)

    @property
    def wanted(self) -> frozenset[int]:
        """Partitions that the group has given to this member, stored now or not."""
        return frozenset(self._wanted)

    @property
    def held(self) -> str | None:
        """Why nothing is read although all is well with this member; None while records flow."""
        return self._holding.reason or self._handler.held_because()

    async def ends_of_first(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The end offsets of these partitions of the group's first topic, asked of the broker now, in one request."""
        pairs = [TopicPartition(self._topics[0], number) for number in partitions]
        ends = await asyncio.wait_for(self._consumer.end_offsets(pairs), BROKER_TIMEOUT_S)
        return {pair.partition: int(end) for pair, end in ends.items()}

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop` is set, then finishes the batch in hand and leaves the group."""
        await self._start(stop)
        try:
            while not stop.is_set():
                await self._turn(stop)
        finally:
            await self._finish()

    async def _start(self, stop: asyncio.Event) -> None:
        self._consumer.subscribe(list(self._topics), listener=_Listener(self))
        while not stop.is_set():
            try:
                await self._consumer.start()
            except (KafkaError, OSError) as error:
                await self._back_off("the broker does not answer yet", error, stop)
            else:
                self._failures = 0
                return

    async def _turn(self, stop: asyncio.Event) -> None:
        try:
            if (reason := self._held_back()) is None:
                await self._step()
            else:
                await self._hold(reason)
        except FencedError as error:
            self._metrics.fenced.inc()
            log.warning("batch fenced", group=self._group, reason=str(error))
            self.forget()
            await pause(stop, FENCED_WAIT_S)
        except HeldBack:
            self.forget()
        except TRANSIENT_ERRORS as error:
            self._metrics.failed.inc()
            self.forget()
            self._holding.pause()
            await self._back_off("batch rolled back, reading it again", error, stop)
            await self._holding.poll(0)
        else:
            self._failures = 0
            self.trouble = None
            self._told.over(group=self._group)
            self.progress_at = time.monotonic()

    async def _hold(self, reason: str) -> None:
        """What is read ahead waits; everything else waits in Kafka."""
        self._holding.hold(reason)
        self._metrics.paused.set(1)
        await self._holding.poll()

    def _flow(self) -> None:
        self._holding.release(self._pairs(self._positions))
        self._paused = False
        self._metrics.paused.set(0)

    async def _step(self) -> None:
        """Stores one batch while the next one is fetched and decoded."""
        if self._holding.reason is not None:
            self._flow()
        if self._wanted - self._positions.keys():
            await self._take_over()
        batch, work = self._ahead or await self._fetch()
        self._ahead = None
        if batch.generation != self._generation or not batch.slices:
            self._hints.tell(self._stored_offsets())
            return
        self._storing = asyncio.ensure_future(self._store(batch, work))
        try:
            self._ahead = await self._fetch()
            if await self._holding.outwait(self._storing):
                self._flow()
        except asyncio.CancelledError:
            await self._cut_off(self._storing)
            raise
        finally:
            await self._storing
            self._storing = None
        self._hints.tell(self._stored_offsets())

    async def _cut_off(self, storing: asyncio.Future[None]) -> None:
        """The batch in hand is rolled back; where the server does not answer that either, we hang up."""
        for hang_up in (False, True):
            if hang_up:
                self._takeover.hang_up()
            storing.cancel()
            _, late = await asyncio.wait([storing], timeout=CANCEL_S)
            if not late:
                return

    async def _take_over(self) -> None:
        generation = self._generation
        owned = await self._takeover.take(self._wanted - self._positions.keys())
        if generation == self._generation:
            self._positions |= {one.partition: one for one in owned}
            self._flow()
            self._metrics.owned.set(len(self._positions))

    async def _fetch(self) -> tuple[Batch, Any]:
        generation = self._generation
        at_most = self._at_most()
        try:
            records = await self._consumer.getmany(timeout_ms=FETCH_WAIT_MS, max_records=at_most)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            if self._wanted <= self._positions.keys():
                raise  # retention has outrun us: the takeover that follows a failure notes the gap
            batch = self._batch_of({}, generation)
        except UNREADABLE as error:
            batch = await self._fetch_leniently(generation, error)
        else:
            batch = self._batch_of(records, generation)
        return batch, await self._handler.prepare(batch)

    def _at_most(self) -> int:
        """How many records to ask for; pauses where the handler takes none, resumes where it does again.

        Asked anew at each fetch, for a takeover resumes what it takes.
        """
        takes = self._handler.takes()
        if (takes == 0) != self._paused:
            self._paused = takes == 0
            pairs = self._pairs(self._positions)
            self._consumer.pause(*pairs) if self._paused else self._consumer.resume(*pairs)
        return max(1, self._max_records if takes is None else min(takes, self._max_records))

    async def _fetch_leniently(self, generation: int, error: Exception) -> Batch:
        """Reads all partitions once past what `getmany` cannot decode; aiokafka goes on behind what was read."""
        starts = {
            TopicPartition(topic, number): offset
            for number, position in self._positions.items()
            for topic, offset in zip(self._topics, position.next_offsets, strict=True)
        }
        log.warning("reading leniently", group=self._group, reason=type(error).__name__)
        reading = await asyncio.wait_for(read_leniently(self._consumer, starts, self._max_records), BROKER_TIMEOUT_S)
        batch = self._batch_of(reading.records, generation, reading.after)
        if generation == self._generation:
            for pair, offset in starts.items():
                self._consumer.seek(pair, reading.after.get(pair, offset))
        gap = reading.gap
        return batch if gap is None else replace(batch, poison=gap.reason, gap=gap)

    def _batch_of(
        self,
        records: dict[TopicPartition, list[Any]],
        generation: int,
        ends: Mapping[TopicPartition, int] = NO_ENDS,
    ) -> Batch:
        """`ends`: where reading goes on, if that is not behind the last record."""
        if generation != self._generation:
            return Batch((), generation)
        turns = self._handler.wants_turn()
        numbers = {where.partition for where in records} | turns.keys()
        slices = []
        for number in sorted(numbers & self._positions.keys()):
            one = self._slice_of(number, records, ends, turns.get(number, 0))
            self._note_redelivered(one)
            self._positions[number] = Owned(number, one.epoch, one.after, one.apply_seq + one.size)
            slices.append(one)
        return Batch(tuple(slices), generation)

    def _slice_of(
        self, number: int, records: dict[TopicPartition, list[Any]], ends: Mapping[TopicPartition, int], reserved: int
    ) -> Slice:
        position = self._positions[number]
        pairs = [TopicPartition(topic, number) for topic in self._topics]
        first, second = (
            [one for one in records.get(pair, []) if one.offset >= offset]
            for pair, offset in zip(pairs, position.next_offsets, strict=True)
        )
        after = (
            ends.get(pairs[0], first[-1].offset + 1 if first else position.next_offsets[0]),
            ends.get(pairs[1], second[-1].offset + 1 if second else position.next_offsets[1]),
        )
        last_seq = position.apply_seq + reserved
        return Slice(number, position.epoch, position.next_offsets, after, first, second, last_seq, reserved)

    def _note_redelivered(self, one: Slice) -> None:
        """Counts what comes again: its batch was rolled back or fenced, or never got as far as its transaction."""
        for topic, before, after in zip(self._topics, one.before, one.after, strict=True):
            pair = TopicPartition(topic, one.partition)
            handed = self._handed.get(pair, before)
            self._metrics.redelivered.inc(max(0, min(handed, after) - before))
            self._handed[pair] = max(handed, after)

    async def _store(self, batch: Batch, work: Any) -> None:
        try:
            await self._store_once(batch, work)
        except DATABASE_ERRORS as error:
            if refusal_of(error) is not Refusal.DATA or batch.poison is not None:
                raise
            await self._bisect(batch, reason_of(error))

    async def _bisect(self, batch: Batch, reason: str) -> None:
        self._metrics.bisected.inc()
        self._handler.dropped()
        for part in batch.parts(reason):
            await self._store(part, await self._handler.prepare(part))

    async def _store_once(self, batch: Batch, work: Any) -> None:
        with self._metrics.store_s.time():
            connection = await self._takeover.connection()
            async with connection.begin():
                await advance(connection, self._group, [one.move() for one in batch.slices])
                await self._handler.apply(connection, work)
                if batch.gap is not None:
                    await note_gap(connection, batch.gap, self._metrics)
        if batch.generation == self._generation:
            self._handler.committed(work)
        self._metrics.batches.inc()
        self._metrics.records.inc(batch.size)

    def _stored_offsets(self) -> dict[TopicPartition, int]:
        """Next offset of each partition owned, without what was only read ahead."""
        ahead = {one.partition: one.before for one in self._ahead[0].slices} if self._ahead else {}
        return {
            TopicPartition(topic, number): ahead.get(number, position.next_offsets)[place]
            for number, position in self._positions.items()
            for place, topic in enumerate(self._topics)
        }

    def _pairs(self, numbers: Any) -> list[TopicPartition]:
        assigned = self._consumer.assignment()
        pairs = (TopicPartition(topic, number) for number in numbers for topic in self._topics)
        return [pair for pair in pairs if pair in assigned]

    def forget(self) -> None:
        """Drops all that was read or cached; the partitions still assigned are taken over again."""
        self._generation += 1
        self._positions.clear()
        self._ahead = None
        self._handler.dropped()
        self._metrics.owned.set(0)

    def assigned(self, pairs: set[TopicPartition]) -> None:
        """New assignment: nothing is read from it before PostgreSQL has told where to begin."""
        self._consumer.pause(*pairs)
        self.forget()
        by_topic = [{pair.partition for pair in pairs if pair.topic == topic} for topic in self._topics]
        self._wanted = by_topic[0] & by_topic[1]

    async def revoked(self) -> None:
        """The assignment ends: let the batch in hand finish, so that it is not fenced for nothing."""
        storing = self._storing
        if storing is not None:
            await asyncio.wait([storing], timeout=QUIESCE_S)
        self._wanted = set()
        self.forget()

    async def _back_off(self, what: str, error: BaseException, stop: asyncio.Event) -> None:
        delay_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self.trouble = _reason(error)
        self._told.lasts(what, group=self._group, reason=_reason(error))
        await pause(stop, delay_s)

    async def _finish(self) -> None:
        await self._hints.close()
        try:
            await asyncio.wait_for(self._consumer.stop(), QUIESCE_S)
        except (KafkaError, TimeoutError) as error:
            log.warning("left the group without a farewell", group=self._group, reason=_reason(error))
        finally:
            await self._takeover.close()


class _Listener(ConsumerRebalanceListener):
    """aiokafka logs what a listener raises and goes on consuming: so these only take notes (decision 2)."""

    def __init__(self, member: FencedConsumer) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002 - all are revoked
        await self._member.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._member.assigned(assigned)


def _reason(error: BaseException) -> str:
    """The kind of error and its first line: never the values of a statement."""
    cause = getattr(error, "orig", None) or error
    name = type(cause).__name__
    line = str(cause).removeprefix(f"{name}: ").partition("\n")[0]  # aiokafka's begin with their kind
    return f"{name}: {line[:200]}"
