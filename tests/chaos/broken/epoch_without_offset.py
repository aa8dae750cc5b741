"""The fence compares the owner's epoch but not the offset, and the member trusts it: it goes on after errors."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.ownership import FencedError, Move
from telemetry_svc.stream import consumer
from tests.chaos.broken import goes_on_after_errors

_MOVE = text(
    """
    UPDATE partition_owner SET next_offset_a = :a, next_offset_b = :b, apply_seq = :apply_seq
    WHERE group_name = :group_name AND partition = :partition AND owner_epoch = :epoch
    """
)


async def by_epoch(connection: AsyncConnection, group_name: str, moves: Sequence[Move]) -> None:
    """As `advance`, from any offset."""
    for move in moves:
        to = {"a": move.after[0], "b": move.after[1], "apply_seq": move.apply_seq, "epoch": move.epoch}
        result = await connection.execute(_MOVE, to | {"group_name": group_name, "partition": move.partition})
        if result.rowcount != 1:
            raise FencedError(f"partition {move.partition} has another owner")


def apply() -> None:
    goes_on_after_errors.apply()
    setattr(consumer, "advance", by_epoch)  # noqa: B010 - mypy would have it exported
