"""Whoever has a batch in hand stores it: neither epoch nor offset is compared.

By itself that does little harm: a zombie is soon told that he was put out, and history's key tells him before that he
is not alone. So these are taken away, too (`only_the_fence`, which is clean with the fence).
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.ownership import Move
from telemetry_svc.stream import consumer
from tests.chaos.broken import only_the_fence

_MOVE = text(
    """
    UPDATE partition_owner SET next_offset_a = :a, next_offset_b = :b, apply_seq = :apply_seq
    WHERE group_name = :group_name AND partition = :partition
    """
)


async def unfenced(connection: AsyncConnection, group_name: str, moves: Sequence[Move]) -> None:
    """As `advance`, of any owner and from any offset."""
    for move in moves:
        to = {"a": move.after[0], "b": move.after[1], "apply_seq": move.apply_seq}
        await connection.execute(_MOVE, to | {"group_name": group_name, "partition": move.partition})


def apply() -> None:
    only_the_fence.apply()
    setattr(consumer, "advance", unfenced)  # noqa: B010 - mypy would have it exported
