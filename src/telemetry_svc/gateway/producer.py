"""Pings into Kafka: idempotent, acknowledged by all in-sync replicas, in order per machine.

Requests share one producer, so that small ones travel in common batches. After an error the producer is built anew:
an idempotent one may fail for good after a single refusal (design.md, decision 12), and a broker that is away is then
told at the next request, at once, instead of after a queue has filled. It is built at the first use, so that a gateway
starts while the broker is down.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from aiokafka.errors import KafkaError

from telemetry_svc import topics
from telemetry_svc.gateway.sink import BrokerUnavailable
from telemetry_svc.stream.kafka import KafkaSettings, Producer, client_options

ACK_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 1.0
LINGER_MS = 5
MAX_BATCH_BYTES = 256 * 1024

_BROKER_ERRORS = (KafkaError, OSError, TimeoutError)
_LOG = structlog.get_logger(__name__)


class PingProducer(Protocol):
    """What the sink asks of aiokafka's producer."""

    client: Any

    async def start(self) -> None: ...

    async def send(self, topic: str, value: bytes, *, key: bytes) -> asyncio.Future[Any]: ...

    async def flush(self) -> None: ...

    async def abandon(self) -> None: ...


class KafkaPingSink:
    """A `PingSink` on a real broker."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer: PingProducer | None = None
        self._building = asyncio.Lock()

    async def send(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Returns when every record is acknowledged. Raises `BrokerUnavailable` within `ACK_TIMEOUT_S`."""
        producer = None
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                producer = await self._started()
                acks = [await producer.send(topics.PINGS, value, key=key) for key, value in records]
                await asyncio.gather(*map(asyncio.shield, acks))
        except _BROKER_ERRORS as error:
            await self._drop(producer)
            raise BrokerUnavailable(type(error).__name__) from error

    async def check(self) -> str | None:
        """For readiness: None where the broker answers."""
        try:
            producer = await self._started()
            await producer.client.fetch_all_metadata()
        except _BROKER_ERRORS:
            return "the broker does not answer"
        return None

    async def close(self) -> None:
        """Sends what is waiting, for a moment, and disconnects."""
        await self._drop(self._producer)

    async def _started(self) -> PingProducer:
        async with self._building:
            if self._producer is None:
                self._producer = await self._built()
            return self._producer

    async def _built(self) -> PingProducer:
        producer: PingProducer = Producer(  # type: ignore[no-untyped-call] # aiokafka has no types
            **client_options(self._kafka, "telemetry-gateway"),
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=MAX_BATCH_BYTES,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.abandon()
            raise
        return producer

    async def _drop(self, producer: PingProducer | None) -> None:
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        await _left(producer)


async def _left(producer: PingProducer) -> None:
    """What other requests gave it goes out, if it does so at once; then it is left as it is: the broker may hang."""
    try:
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            await producer.flush()
    except _BROKER_ERRORS as error:
        _LOG.info("producer_stopped_hard", error=type(error).__name__)
    finally:
        await producer.abandon()
