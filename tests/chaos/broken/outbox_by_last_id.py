"""One relay at a time sends the rows behind the last id that went out: what commits late with a lower id is passed."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store import outbox
from telemetry_svc.store.outbox import OutboxMessage, Waiting
from telemetry_svc.stream import relay

_ALONE = text("SELECT pg_try_advisory_xact_lock(4711)")
_BEHIND = text(
    """
    SELECT id, topic, partition, key, value, headers FROM outbox
    WHERE id > (SELECT coalesce(max(id), 0) FROM outbox WHERE sent_at IS NOT NULL) ORDER BY id LIMIT :rows
    """
)


async def behind_the_last(
    connection: AsyncConnection, *, buckets: int, rows: int, without: Sequence[str]
) -> list[Waiting]:
    """As `lock_waiting`, by `id > last`."""
    if not await connection.scalar(_ALONE):
        return []
    found = await connection.execute(_BEHIND, {"rows": rows})
    return [Waiting(row[0], OutboxMessage(row[1], row[3], row[4], outbox._headers(row[5]), row[2])) for row in found]


def apply() -> None:
    setattr(relay, "lock_waiting", behind_the_last)  # noqa: B010 - mypy would have it exported
