"""What must happen once per slot of time, whoever gets to it: the row is the right to do it."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_TAKE = text(
    "INSERT INTO schedule_slot (schedule, slot) VALUES (:schedule, :slot) ON CONFLICT DO NOTHING RETURNING schedule"
)
DROPPED_AT_ONCE = 10_000
_DROP_SENT = text(
    f"""
    WITH old AS (SELECT id FROM outbox WHERE sent_at < :before ORDER BY sent_at LIMIT {DROPPED_AT_ONCE})
    DELETE FROM outbox o USING old WHERE o.id = old.id
    """
)
_DROP_SLOTS = text("DELETE FROM schedule_slot WHERE slot < :before")


async def take_slot(connection: AsyncConnection, schedule: str, slot: datetime) -> bool:
    """True for the one caller that may do the slot's work, in the same transaction."""
    row = await connection.execute(_TAKE, {"schedule": schedule, "slot": slot})
    return row.first() is not None


async def drop_sent(connection: AsyncConnection, before: datetime) -> bool:
    """Forgets outbox rows that were sent, and slots that were done, before an instant. True where more may be left."""
    sent = await connection.execute(_DROP_SENT, {"before": before})
    await connection.execute(_DROP_SLOTS, {"before": before})
    return sent.rowcount >= DROPPED_AT_ONCE
