"""How many partitions the machines were spread over: it must never change while anything is unread (decision 4)."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_KEEP = text(
    """
    INSERT INTO topic_layout (topic, partitions)
    SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[])) ON CONFLICT (topic) DO NOTHING
    """
)
_READ = text("SELECT topic, partitions FROM topic_layout")


async def keep_layout(connection: AsyncConnection, counts: Mapping[str, int]) -> None:
    """Notes the topics that were not known before."""
    await connection.execute(_KEEP, {"topics": list(counts), "partitions": list(counts.values())})


async def layout(connection: AsyncConnection) -> dict[str, int]:
    """Partitions of each topic when it was first seen."""
    return {row[0]: row[1] for row in await connection.execute(_READ)}
