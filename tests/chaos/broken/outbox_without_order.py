"""The relay sends what waits in any order: here the newest first."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store import outbox
from telemetry_svc.store.outbox import Waiting
from telemetry_svc.stream import relay


async def newest_first(
    connection: AsyncConnection, *, buckets: int, rows: int, without: Sequence[str]
) -> list[Waiting]:
    """As `lock_waiting`, the wrong way round."""
    return (await outbox.lock_waiting(connection, buckets=buckets, rows=rows, without=without))[::-1]


def apply() -> None:
    setattr(relay, "lock_waiting", newest_first)  # noqa: B010 - mypy would have it exported
