"""The outbox relay: rows that a transaction decided become records, in order per key (design.md, decision 12).

A pass locks some buckets, builds one producer batch per topic partition, waits for every ack and marks what went out. A
partition's rows travel as one batch, so they arrive together or not at all, and order survives any failure. A crash
between ack and mark sends the same ids again: harmless, for ids are the same for ever.
"""

import asyncio
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import pause
from telemetry_svc.logs import CALM_S, Trouble
from telemetry_svc.store.outbox import OutboxMessage, Waiting, lock_waiting, mark_sent, park
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.kafka import BATCH_OVERHEAD, Broker, RelayProducer, partition_of
from telemetry_svc.stream.metrics import RelayMetrics
from telemetry_svc.stream.topics import largest_batch_bytes

log = structlog.get_logger(__name__)

RECORD_OVERHEAD = 21
"""A record's length, attributes, time and offset, each as long as it may be."""
POLL_S = 0.2
BACKOFF_S = 1.0
ACK_TIMEOUT_S = 8.0
"""Below `idle_in_transaction_session_timeout`, so that the pass ends before the server ends its session."""
BUCKETS_PER_PASS = 64
ROWS_PER_PASS = 2_000
TRANSIENT_ERRORS: tuple[type[Exception], ...] = (KafkaError, *DATABASE_ERRORS)


class OutboxRelay:
    """One relay loop; any number may run anywhere. `wake` is set by a listener on the database's NOTIFY."""

    def __init__(self, *, kafka: Broker, engine: AsyncEngine, metrics: RelayMetrics) -> None:
        self._kafka = kafka
        self._engine = engine
        self._metrics = metrics
        self._producer: RelayProducer | None = None
        self._trouble = Trouble(log, calm_s=CALM_S)
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
            rows = await lock_waiting(connection, buckets=BUCKETS_PER_PASS, rows=ROWS_PER_PASS)
            if not rows:
                return 0
            parked = [row for row in rows if _size(row.message) > _room(row.message.topic)]
            for row in parked:
                await park(connection, row.id, f"larger than {_room(row.message.topic)} bytes")
                log.error("outbox row parked: too large for its topic", row=row.id, topic=row.message.topic)
            parked_ids = {row.id for row in parked}
            sent, refusal = await self._send([row for row in rows if row.id not in parked_ids])
            await mark_sent(connection, sent)
        self._metrics.sent.inc(len(sent))
        self._metrics.parked.inc(len(parked))
        if refusal is not None:
            raise refusal
        return len(sent) + len(parked)

    async def _send(self, rows: list[Waiting]) -> tuple[list[int], BaseException | None]:
        """The rows that the broker has, and why it has not the others: one partition's refusal is no other's."""
        producer = await self._started()
        by_partition: dict[TopicPartition, list[Waiting]] = {}
        for row in rows:
            by_partition.setdefault(await self._place(producer, row.message), []).append(row)
        filled: list[list[int]] = []
        acks: list[asyncio.Future[Any]] = []
        try:
            for place, waiting in by_partition.items():
                batch = producer.create_batch()
                filled.append(_fill(batch, waiting, _room(place.topic)))
                acks.append(await producer.send_batch(batch, place.topic, partition=place.partition))
            answers = await asyncio.wait_for(asyncio.gather(*acks, return_exceptions=True), ACK_TIMEOUT_S)
        finally:
            for ack in acks:
                ack.cancel()  # nobody asks for it any more
        refused = [answer if isinstance(answer, BaseException) else None for answer in answers]
        acknowledged = [ids for ids, refusal in zip(filled, refused, strict=True) if refusal is None]
        return [row_id for ids in acknowledged for row_id in ids], next(filter(None, refused), None)

    async def _place(self, producer: RelayProducer, message: OutboxMessage) -> TopicPartition:
        if message.partition is not None:
            return TopicPartition(message.topic, message.partition)
        partitions = await producer.partitions_for(message.topic)
        return TopicPartition(message.topic, partition_of(message.key or b"", len(partitions)))

    async def _started(self) -> RelayProducer:
        if self._producer is None:
            producer = self._kafka.relay_producer()
            try:
                await producer.start()
            except (KafkaError, OSError):
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        """After a refusal an idempotent producer fails for good: it is built anew (decision 12). What it held still
        waits in the outbox."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.abandon()


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
