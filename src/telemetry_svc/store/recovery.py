"""What a restored database needs before it is like any other: offsets that the broker has, transaction ids of its own.

Only `telemetry-svc recover` calls this, with no role running.
"""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.gaps import Gap, add_gap
from telemetry_svc.store.schema.base import Xid8, metadata

_REWIND = text(
    """
    UPDATE partition_owner SET owner_epoch = owner_epoch + 1, next_offset_a = :a, next_offset_b = :b
    WHERE group_name = :group_name AND partition = :partition
    """
)


class Rewound(Struct, frozen=True):
    """A partition of a group that is read anew from `next_offsets`."""

    group_name: str
    partition: int
    next_offsets: tuple[int, int]


async def rewind(connection: AsyncConnection, rewound: Sequence[Rewound], lost: Sequence[Gap]) -> None:
    """Reads these partitions anew, under a new epoch, and notes what is gone."""
    for one in rewound:
        a, b = one.next_offsets
        values = {"group_name": one.group_name, "partition": one.partition, "a": a, "b": b}
        await connection.execute(_REWIND, values)
    for gap in lost:
        await add_gap(connection, gap)


async def lower_xids(connection: AsyncConnection) -> int:
    """Brings transaction ids of another server below our own, in their order; returns how many rows had one.

    Lists and streams show rows below the oldest open transaction (design.md, decision 17): an id from a server that
    was further would stay hidden until ours has come as far.
    """
    await connection.execute(text("SET LOCAL transaction_timeout = 0"))
    lowered = 0
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Xid8):
                lowered += await _lower(connection, table.name, column.name)
    return lowered


async def _lower(connection: AsyncConnection, table: str, column: str) -> int:
    """All to the id before our own: among them the rows' own numbers keep the order."""
    statement = f"""
        UPDATE {table} SET {column} = (pg_current_xact_id()::text::bigint - 1)::text::xid8
        WHERE {column} > pg_current_xact_id()
    """
    return int((await connection.execute(text(statement))).rowcount)
