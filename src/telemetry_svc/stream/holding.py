"""How a group member stands still without falling out of its group (design.md, decisions 3 and 15).

Its partitions are paused, so aiokafka fetches nothing more and drops what it had fetched; it is polled all the same,
for a member that does not poll for five minutes is put out.
"""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

log = structlog.get_logger(__name__)

POLL_MS = 200
SLOW_STORE_S = 5.0
REBALANCE_S = 1.0


class Holding:
    """Pauses and resumes one consumer. `reason`: why nothing is read now; None while records flow."""

    def __init__(self, consumer: AIOKafkaConsumer, group: str) -> None:
        self._consumer = consumer
        self._group = group
        self.reason: str | None = None

    def hold(self, reason: str) -> None:
        """Pauses whatever is assigned now, again after each rebalance."""
        if self.reason != reason:
            log.warning("reading pauses", group=self._group, reason=reason)
        self.reason = reason
        self.pause()

    def pause(self) -> None:
        self._consumer.pause(*self._consumer.assignment())

    def release(self, pairs: Iterable[TopicPartition]) -> None:
        """Lets these partitions flow: those that were taken over, for no other has a place to read from."""
        if self.reason is not None:
            log.info("reading goes on", group=self._group, after=self.reason)
        self.reason = None
        self._consumer.resume(*pairs)

    async def poll(self, timeout_ms: int = POLL_MS) -> None:
        """Says that we are alive. Paused partitions give nothing; what one of them raises shows again when it flows.

        Not by `wait_for`, which in Python 3.11 loses a cancelling that comes just as the poll returns.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000 + REBALANCE_S):
                await self._consumer.getmany(timeout_ms=timeout_ms)
        except TimeoutError:
            return  # a rebalance is under way, which counts as life
        except KafkaError as error:
            log.info("polled in vain", group=self._group, reason=type(error).__name__)
            await asyncio.sleep(timeout_ms / 1000)

    async def outwait(self, storing: "asyncio.Future[None]") -> bool:
        """Waits for a batch to be stored, polling where that takes long; True where it had to pause for it."""
        done, _ = await asyncio.wait([storing], timeout=SLOW_STORE_S)
        if done:
            return False
        self.pause()
        while not storing.done():
            await self.poll()
        return True
