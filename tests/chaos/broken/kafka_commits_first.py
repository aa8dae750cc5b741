"""The offset is committed to Kafka before the database commits, and Kafka's offset is where an owner begins."""

from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from msgspec.structs import replace
from sqlalchemy import text

from telemetry_svc.store.ownership import Owned
from telemetry_svc.stream.batch import Batch
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.takeover import Takeover

_MOVE = text(
    """
    UPDATE partition_owner SET next_offset_a = :a, next_offset_b = :b
    WHERE group_name = :group_name AND partition = :partition
    """
)


def apply() -> None:
    store_once, take = FencedConsumer._store_once, Takeover.take

    async def commits_first(self: FencedConsumer, batch: Batch, work: Any) -> None:
        await self._consumer.commit(
            {
                TopicPartition(topic, one.partition): offset
                for one in batch.slices
                for topic, offset in zip(self._topics, one.after, strict=True)
            }
        )
        await store_once(self, batch, work)

    async def takes_from_kafka(self: Takeover, partitions: Collection[int]) -> list[Owned]:
        return [await _as_kafka_says(self, one) for one in await take(self, partitions)]

    setattr(FencedConsumer, "_store_once", commits_first)  # noqa: B010 - a method is not assigned to
    setattr(Takeover, "take", takes_from_kafka)  # noqa: B010


async def _as_kafka_says(self: Takeover, owned: Owned) -> Owned:
    pairs = [TopicPartition(topic, owned.partition) for topic in self._topics]
    first, second = [
        max(offset, await self._consumer.committed(pair) or 0)
        for pair, offset in zip(pairs, owned.next_offsets, strict=True)
    ]
    connection = await self.connection()
    where = {"group_name": self._group, "partition": owned.partition}
    async with connection.begin():
        await connection.execute(_MOVE, where | {"a": first, "b": second})
    for pair, offset in zip(pairs, (first, second), strict=True):
        self._consumer.seek(pair, offset)
    return replace(owned, next_offsets=(first, second))
