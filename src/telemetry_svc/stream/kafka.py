"""How to reach the broker: one set of settings, turned into the options of every aiokafka client.

Consumer and relay ask a `Broker` for their clients, made with what the guarantees need of them; `KafkaSettings` is the
real one, the simulation has another (tests/simulation).
"""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any, Literal, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from msgspec import Struct

FETCH_WAIT_MS = 200
BROKER_TIMEOUT_S = 20.0
MAX_RECORD_BYTES = 2 * 1024 * 1024
BATCH_OVERHEAD = 4_096
_FAREWELL_S = 1.0


class RelayProducer(Protocol):
    """What the relay asks of a producer: batches of records that arrive together or not at all."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def create_batch(self) -> BatchBuilder: ...

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]: ...

    async def partitions_for(self, topic: str) -> set[int]: ...

    async def abandon(self) -> None:
        """Ends it as it is, whatever it still holds."""
        ...


class Broker(Protocol):
    """Gives clients that are not started yet."""

    def group_member(self, group: str) -> AIOKafkaConsumer: ...

    def relay_producer(self) -> RelayProducer: ...


class KafkaSettings(Struct, frozen=True):
    """`TELEMETRY_KAFKA_…` (contract.md, Command line). Files are PEM; the password is never printed."""

    bootstrap: str
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None

    def __repr__(self) -> str:
        return f"KafkaSettings(bootstrap={self.bootstrap!r}, security_protocol={self.security_protocol!r})"

    def group_member(self, group: str) -> AIOKafkaConsumer:
        """A consumer that never starts from Kafka's own offsets and never jumps a gap (design.md, decision 3)."""
        return AIOKafkaConsumer(
            **client_options(self, group),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=[RangePartitionAssignor],
            fetch_max_wait_ms=FETCH_WAIT_MS // 2,  # other requests wait behind a fetch on the same connection
            max_partition_fetch_bytes=2 * 1024 * 1024,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=300_000,
        )

    def relay_producer(self) -> RelayProducer:
        """A producer for batches as large as the largest topic takes."""
        return Producer(  # type: ignore[no-untyped-call] # aiokafka has no types
            **client_options(self, "telemetry-relay"),
            acks="all",
            enable_idempotence=True,
            max_request_size=MAX_RECORD_BYTES,
            max_batch_size=MAX_RECORD_BYTES - BATCH_OVERHEAD,
        )


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Keyword arguments common to aiokafka's consumer, producer and admin client."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": 15_000,
        "retry_backoff_ms": 100,
    }
    if settings.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_file and str(settings.ssl_ca_file))
    if settings.ssl_cert_file is not None:
        context.load_cert_chain(str(settings.ssl_cert_file), settings.ssl_key_file and str(settings.ssl_key_file))
    return context


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default partition of a keyed record: murmur2, as contract.md (Topics) fixes it for every producer."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class Producer(AIOKafkaProducer):
    """aiokafka's, which can be left as it is: the relay's and the gateway's."""

    async def abandon(self) -> None:
        """Not by `stop`, which waits for acks that may never come: an idempotent batch is tried for ever, so each one
        that is given up while the broker is away would leave its tasks and connections behind."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sender.close(), _FAREWELL_S)
        self._closed = True
        await self.client.close()
