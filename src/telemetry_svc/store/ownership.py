"""The fence: which consumer owns a partition, and the offset it has read up to, in the transaction of its results.

One row per group and partition number holds the owner's epoch and the next offset of each of the group's two topics.
A batch moves both or rolls back, so a zombie that wakes up after a takeover, or a batch repeated after a commit in
doubt, finds another epoch or another offset and stores nothing (design.md, decisions 1 and 2).
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

Offsets = tuple[int, int]
"""Next offset of the group's first and of its second topic."""

LOCK_TIMEOUT_MS = 2_000


class FencedError(Exception):
    """Another owner has the partition, or this batch is already stored. Nothing of the transaction may be kept."""


class Owned(Struct, frozen=True):
    """A partition as its owner knows it after a takeover: what to seek to, and how many inputs were applied so far."""

    partition: int
    epoch: int
    next_offsets: Offsets
    apply_seq: int


class Move(Struct, frozen=True):
    """One partition's step of a batch: read from exactly `before`, next to be read `after`."""

    partition: int
    epoch: int
    before: Offsets
    after: Offsets
    apply_seq: int


_FIRST_SEEN = text(
    """
    INSERT INTO partition_owner (group_name, partition, owner_epoch, owner_pid, owner_backend_start,
                                 next_offset_a, next_offset_b)
    SELECT :group_name, s.partition, 0, 0, 'epoch', s.a, s.b
    FROM unnest(CAST(:partitions AS int[]), CAST(:a AS bigint[]), CAST(:b AS bigint[])) AS s (partition, a, b)
    ORDER BY s.partition
    ON CONFLICT DO NOTHING
    """
)

_TAKE_OVER = text(
    """
    WITH mine AS (
        SELECT partition FROM partition_owner
        WHERE group_name = :group_name AND partition = ANY(CAST(:partitions AS int[]))
        ORDER BY partition FOR UPDATE
    )
    UPDATE partition_owner o
    SET owner_epoch = o.owner_epoch + 1, owner_pid = pg_backend_pid(), taken_at = clock_timestamp(),
        owner_backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
    FROM mine
    WHERE o.group_name = :group_name AND o.partition = mine.partition
    RETURNING o.partition, o.owner_epoch, o.next_offset_a, o.next_offset_b, o.apply_seq
    """
)

_TERMINATE_OWNERS = text(
    """
    SELECT count(pg_terminate_backend(a.pid))
    FROM partition_owner o
    JOIN pg_stat_activity a ON a.pid = o.owner_pid AND a.backend_start = o.owner_backend_start
    WHERE o.group_name = :group_name AND o.partition = ANY(CAST(:partitions AS int[])) AND a.pid <> pg_backend_pid()
    """
)

_ADVANCE = text(
    """
    WITH moves AS (
        SELECT * FROM unnest(CAST(:partitions AS int[]), CAST(:epochs AS bigint[]),
                             CAST(:before_a AS bigint[]), CAST(:before_b AS bigint[]),
                             CAST(:after_a AS bigint[]), CAST(:after_b AS bigint[]), CAST(:apply_seqs AS bigint[]))
             AS m (partition, epoch, before_a, before_b, after_a, after_b, apply_seq)
    ), mine AS (
        SELECT o.partition FROM partition_owner o JOIN moves m USING (partition)
        WHERE o.group_name = :group_name ORDER BY o.partition FOR UPDATE OF o
    )
    UPDATE partition_owner o
    SET next_offset_a = m.after_a, next_offset_b = m.after_b, apply_seq = m.apply_seq
    FROM moves m JOIN mine USING (partition)
    WHERE o.group_name = :group_name AND o.partition = m.partition AND o.owner_epoch = m.epoch
      AND o.next_offset_a = m.before_a AND o.next_offset_b = m.before_b
    """
)

_STORED = text("SELECT partition, next_offset_a, next_offset_b FROM partition_owner WHERE group_name = :group_name")


async def take_over(connection: AsyncConnection, group_name: str, starts: Mapping[int, Offsets]) -> list[Owned]:
    """Makes this connection's backend the owner of the partitions, under a new epoch each.

    `starts`: where to begin a partition that nobody has read yet. Waits for a lock at most `LOCK_TIMEOUT_MS`, then
    PostgreSQL raises 55P03: terminate the owners and try again. The caller owns the transaction.
    """
    partitions = sorted(starts)
    await connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
    group = {"group_name": group_name, "partitions": partitions}
    await connection.execute(
        _FIRST_SEEN,
        group | {"a": [starts[number][0] for number in partitions], "b": [starts[number][1] for number in partitions]},
    )
    rows = await connection.execute(_TAKE_OVER, group)
    return [Owned(row[0], row[1], (row[2], row[3]), row[4]) for row in rows]


async def terminate_owners(connection: AsyncConnection, group_name: str, partitions: Sequence[int]) -> int:
    """Ends the sessions of the owners written down for these partitions (a zombie holds its row for as long as it
    sleeps). Returns how many; a pid that has been reused by another session is left alone."""
    result = await connection.execute(_TERMINATE_OWNERS, {"group_name": group_name, "partitions": sorted(partitions)})
    return int(result.scalar_one())


async def advance(connection: AsyncConnection, group_name: str, moves: Sequence[Move]) -> None:
    """The first statement of a batch: moves the offsets of all its partitions, or raises `FencedError`."""
    result = await connection.execute(
        _ADVANCE,
        {
            "group_name": group_name,
            "partitions": [move.partition for move in moves],
            "epochs": [move.epoch for move in moves],
            "before_a": [move.before[0] for move in moves],
            "before_b": [move.before[1] for move in moves],
            "after_a": [move.after[0] for move in moves],
            "after_b": [move.after[1] for move in moves],
            "apply_seqs": [move.apply_seq for move in moves],
        },
    )
    if result.rowcount != len(moves):
        message = f"{len(moves) - result.rowcount} of {len(moves)} partitions have another owner or offset"
        raise FencedError(message)


async def stored_offsets(connection: AsyncConnection, group_name: str) -> dict[int, Offsets]:
    """How far each partition of the group is stored; one that nobody ever took over is absent."""
    return {row[0]: (row[1], row[2]) for row in await connection.execute(_STORED, {"group_name": group_name})}
