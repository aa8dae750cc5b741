"""Offsets that nobody can read any more, written down where they were passed over."""

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ADD = text(
    """
    INSERT INTO offset_gap (topic, partition, from_offset, to_offset, reason)
    VALUES (:topic, :partition, :from_offset, :to_offset, :reason) ON CONFLICT DO NOTHING
    """
)


class Gap(Struct, frozen=True):
    """Offsets of a topic partition that cannot be had, `to_offset` being the first behind them."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int
    reason: str


async def add_gap(connection: AsyncConnection, gap: Gap) -> None:
    """In the transaction that moves the offset behind it."""
    await connection.execute(_ADD, asdict(gap))
