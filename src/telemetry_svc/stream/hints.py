"""What Kafka is told of our offsets, at most once a second, for its lag tools. Nothing ever starts from it."""

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from telemetry_svc.stream.kafka import BROKER_TIMEOUT_S

log = structlog.get_logger(__name__)

HINT_EVERY_S = 1.0


class OffsetHints:
    """Commits to Kafka beside the work, one commit at a time."""

    def __init__(self, consumer: AIOKafkaConsumer, group: str) -> None:
        self._consumer = consumer
        self._group = group
        self._told_at = 0.0
        self._told: dict[TopicPartition, int] = {}
        self._telling: asyncio.Task[None] | None = None

    def tell(self, offsets: dict[TopicPartition, int]) -> None:
        """Tells where each partition is stored up to, if that is news and the last time is long enough ago."""
        now = asyncio.get_running_loop().time()
        if now - self._told_at < HINT_EVERY_S or not offsets or offsets == self._told:
            return
        if self._telling is None or self._telling.done():
            self._told_at = now
            self._telling = asyncio.ensure_future(self._commit(offsets))

    async def close(self) -> None:
        """Lets the last one go out, if that is quick."""
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=HINT_EVERY_S)
            self._telling.cancel()

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        try:
            await asyncio.wait_for(self._consumer.commit(offsets), BROKER_TIMEOUT_S)
        except (KafkaError, TimeoutError) as error:
            log.info("offset hint refused", group=self._group, reason=type(error).__name__)
        else:
            self._told = offsets
