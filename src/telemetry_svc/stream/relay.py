"""The outbox relay: rows that a transaction decided become records, in order per key (design.md, decision 12).

A pass locks some buckets, builds one producer batch per topic partition, waits for every ack and marks what went out. A
partition's rows travel as one batch, so they arrive together or not at all, and order survives any failure. A crash
between ack and mark sends the same ids again: harmless, for ids are the same for ever. A topic that is missing or does
not answer is left alone for a while: its rows wait, in order, and the others go.
"""

import asyncio
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.clock import pause
from telemetry_svc.logs import CALM_S, Trouble
from telemetry_svc.store.outbox import OutboxMessage, Waiting, lock_waiting, mark_sent, park
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.kafka import BATCH_OVERHEAD, Broker, RelayProducer, partition_of
from telemetry_svc.stream.metrics import RelayMetrics
from telemetry_svc.stream.quiet_topics import QuietTopics
from telemetry_svc.stream.topics import largest_batch_bytes

log = structlog.get_logger(__name__)

RECORD_OVERHEAD = 21
"""A record's length, attributes, time and offset, each as long as it may be."""
POLL_S = 0.2
BACKOFF_S = 1.0
METADATA_TIMEOUT_S = 2.0
ACK_TIMEOUT_S = 8.0
"""For all that a pass asks of the broker. Below `idle_in_transaction_session_timeout`, so that the pass ends before the
server ends its session."""
BUCKETS_PER_PASS = 64
ROWS_PER_PASS = 2_000
_OF_THE_TOPIC = (TimeoutError, TopicAuthorizationFailedError)
"""What tells of a topic, and not of what was sent to it."""
TRANSIENT_ERRORS: tuple[type[Exception], ...] = (KafkaError, *DATABASE_ERRORS)


class OutboxRelay:
    """One relay loop; any number may run anywhere. `wake` is set by a listener on the database's NOTIFY."""

    def __init__(self, *, kafka: Broker, engine: AsyncEngine, metrics: RelayMetrics) -> None:
        self._kafka = kafka
        self._engine = engine
        self._metrics = metrics
        self._producer: RelayProducer | None = None
        self._trouble = Trouble(log, calm_s=CALM_S)
        self._quiet = QuietTopics(metrics.quiet)
        self.wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Relays until `stop` is set; what is decided by then but not sent waits for the next relay."""
        try:
            while not stop.is_set():
                await self._turn(stop)
        finally:
            await self._drop_producer()

    async def _turn(self, stop: asyncio.Event) -> None:
        try:
            sent = await self.relay_once()
        except TRANSIENT_ERRORS as error:
            self._metrics.failed.inc()
            self._trouble.lasts("outbox pass failed, trying again", reason=type(error).__name__)
            await self._drop_producer()
            await pause(stop, BACKOFF_S)
        else:
            self._trouble.over()
            if not sent:
                await self._idle(stop)

    async def _idle(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self.wake)]
        try:
            await asyncio.wait(waits, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.wake.clear()

    async def relay_once(self) -> int:
        """One pass; returns how many rows went out or were parked. Raises what the broker or the database raise."""
        async with self._engine.connect() as connection, connection.begin():
            rows = await lock_waiting(
                connection, buckets=BUCKETS_PER_PASS, rows=ROWS_PER_PASS, without=self._quiet.left_alone()
            )
            if not rows:
                return 0
            fitting = await _park_the_others(connection, rows)
            sent, refusal = await self._sent(fitting)
            await mark_sent(connection, sent)
        parked = len(rows) - len(fitting)
        self._metrics.sent.inc(len(sent))
        self._metrics.parked.inc(parked)
        if refusal is not None:
            raise refusal
        return len(sent) + parked

    async def _sent(self, rows: list[Waiting]) -> tuple[list[int], BaseException | None]:
        """As `_send`; a broker that is away is no reason to forget what was parked."""
        if not rows:
            return [], None
        try:
            return await self._send(rows)
        except (KafkaError, OSError) as error:
            return [], error

    async def _send(self, rows: list[Waiting]) -> tuple[list[int], BaseException | None]:
        """The rows that the broker has, and why it has not the others: what one partition refuses, or one topic leaves
        unanswered, is no other's. Raises `TimeoutError` where not even the sending came to an end."""
        ends_at_s = asyncio.get_running_loop().time() + ACK_TIMEOUT_S
        batches: list[_OnItsWay] = []
        try:
            async with asyncio.timeout_at(ends_at_s):
                producer = await self._started()
                for place, waiting in (await self._by_partition(producer, rows)).items():
                    batches.append(await _handed_over(producer, place, waiting))
            if batches:
                left_s = ends_at_s - asyncio.get_running_loop().time()
                await asyncio.wait([batch.ack for batch in batches], timeout=left_s)
            return self._judged(batches)
        finally:
            for batch in batches:
                batch.ack.cancel()  # nobody asks for it any more

    async def _by_partition(self, producer: RelayProducer, rows: list[Waiting]) -> dict[TopicPartition, list[Waiting]]:
        """The rows, in order, by where they go; those of a topic that is not there are left out."""
        names = sorted({row.message.topic for row in rows})
        counts = await asyncio.gather(*(self._partitions(producer, name) for name in names))
        partitions = dict(zip(names, counts, strict=True))
        found: dict[TopicPartition, list[Waiting]] = {}
        for row in rows:
            if count := partitions[row.message.topic]:
                found.setdefault(_place(row.message, count), []).append(row)
        return found

    async def _partitions(self, producer: RelayProducer, topic: str) -> int:
        """Of the topic; none where the broker does not know it. aiokafka would ask for 15 s."""
        try:
            async with asyncio.timeout(METADATA_TIMEOUT_S):
                return len(await producer.partitions_for(topic))
        except (KafkaError, TimeoutError) as error:
            self._quiet.keeps_quiet(topic, error)
            return 0

    def _judged(self, batches: "list[_OnItsWay]") -> tuple[list[int], BaseException | None]:
        refusals = [(batch, _refusal(batch.ack)) for batch in batches]
        quiet = {batch.topic: why for batch, why in refusals if isinstance(why, _OF_THE_TOPIC)}
        for topic, why in quiet.items():
            self._quiet.keeps_quiet(topic, why)
        for topic in sorted({batch.topic for batch, why in refusals if why is None} - quiet.keys()):
            self._quiet.answers(topic)
        sent = [row_id for batch, why in refusals if why is None for row_id in batch.ids]
        return sent, next((why for _, why in refusals if why is not None), None)

    async def _started(self) -> RelayProducer:
        if self._producer is None:
            producer = self._kafka.relay_producer()
            try:
                await producer.start()
            except BaseException:
                await producer.abandon()
                raise
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        """After a refusal an idempotent producer fails for good: it is built anew (decision 12). What it held still
        waits in the outbox."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.abandon()


class _OnItsWay(Struct, frozen=True):
    """A batch that the producer has, with the ids of its rows."""

    topic: str
    ids: list[int]
    ack: asyncio.Future[Any]


async def _handed_over(producer: RelayProducer, place: TopicPartition, waiting: list[Waiting]) -> _OnItsWay:
    batch = producer.create_batch()
    ids = _fill(batch, waiting, _room(place.topic))
    return _OnItsWay(place.topic, ids, await producer.send_batch(batch, place.topic, partition=place.partition))


def _refusal(ack: asyncio.Future[Any]) -> BaseException | None:
    return ack.exception() if ack.done() else TimeoutError()


def _place(message: OutboxMessage, partitions: int) -> TopicPartition:
    """A record without a key keeps its partition, where the topic has as many."""
    if message.partition is not None:
        return TopicPartition(message.topic, message.partition % partitions)
    return TopicPartition(message.topic, partition_of(message.key or b"", partitions))


async def _park_the_others(connection: AsyncConnection, rows: list[Waiting]) -> list[Waiting]:
    """The rows that their topic has room for. Each of the others is put aside and told."""
    fitting = []
    for row in rows:
        topic = row.message.topic
        if _size(row.message) <= _room(topic):
            fitting.append(row)
            continue
        await park(connection, row.id, f"larger than {_room(topic)} bytes")
        log.error("outbox row parked: too large for its topic", row=row.id, topic=topic)
    return fitting


def _room(topic: str) -> int:
    return largest_batch_bytes(topic) - BATCH_OVERHEAD


def _size(message: OutboxMessage) -> int:
    """At least what the message takes in a batch, and no more than `RECORD_OVERHEAD` above it."""
    size: int = DefaultRecordBatchBuilder.size_of(message.key, message.value, list(message.headers))
    return size + RECORD_OVERHEAD


def _fill(batch: BatchBuilder, waiting: list[Waiting], room: int) -> list[int]:
    """Puts rows into the batch, in order, until its topic would refuse it; returns their ids. One always fits."""
    taken = []
    for row in waiting:
        message = row.message
        room -= _size(message)
        headers = list(message.headers)
        if room < 0 or not batch.append(key=message.key, value=message.value, timestamp=None, headers=headers):
            break
        taken.append(row.id)
    batch.close()
    return taken
