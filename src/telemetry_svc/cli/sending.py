"""Sends pings to the topic as a device's bridge would: keyed by machine, acknowledged, with what it did at the end."""

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from telemetry_svc import topics
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from telemetry_svc.stream.topics import BrokerUnavailable

BATCH = 5_000


def no_progress(_: int) -> None:
    """For those who do not watch."""


async def send_pings(
    kafka: KafkaSettings, pings: Iterable[tuple[str, bytes]], progress: Callable[[int], None] = no_progress
) -> int:
    """Sends (machine id, value) pairs in order and waits for every acknowledgement; returns how many.

    Raises `BrokerUnavailable`.
    """
    async with ping_producer(kafka) as producer:
        sent = 0
        waiting: list[asyncio.Future[object]] = []
        for machine_id, value in pings:
            waiting.append(await producer.send(topics.PINGS, value, key=machine_id.encode()))
            if len(waiting) >= BATCH:
                sent += await _acknowledged(waiting)
                progress(sent)
        return sent + await _acknowledged(waiting)


async def _acknowledged(waiting: "list[asyncio.Future[object]]") -> int:
    count = len(waiting)
    await asyncio.gather(*waiting)
    waiting.clear()
    return count


class ping_producer:  # noqa: N801 - reads as the context manager it is
    """An idempotent producer with acks=all, its errors under our name."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> AIOKafkaProducer:
        self._producer = AIOKafkaProducer(
            **client_options(self._kafka, "telemetry-fleet"),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=256 * 1024,
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            message = f"no Kafka broker answers at {self._kafka.bootstrap} (TELEMETRY_KAFKA_BOOTSTRAP)"
            raise BrokerUnavailable(message) from error
        return self._producer

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            await self._producer.stop()
