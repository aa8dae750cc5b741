"""What was answered to a request with an `Idempotency-Key`, so that a repeat gets the same answer and changes nothing.

The row is written first, in the transaction of the work: a parallel repeat waits for it and then finds the answer; a
failure takes the row with it, and the repeat is a first try.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from msgspec import Struct
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.calls import call_idempotency

KEPT = timedelta(hours=24)


class RequestKey(Struct, frozen=True):
    """A request by who asks, the key he gave it, and the sha256 of what he asked."""

    key_id: str
    idempotency_key: str
    request_sha256: bytes


class Repeat(Enum):
    FIRST = "first"
    OTHER_REQUEST = "other_request"
    """The same key came with another request."""


async def begin(connection: AsyncConnection, key: RequestKey) -> dict[str, Any] | Repeat:
    """FIRST: go ahead, then `keep` the answer. A dict: the answer that was given. Waits for one under way."""
    row = {
        "key_id": key.key_id,
        "idempotency_key": key.idempotency_key,
        "request_sha256": key.request_sha256,
    }
    made = await connection.execute(insert(call_idempotency).values(row).on_conflict_do_nothing())
    if made.rowcount == 1:
        return Repeat.FIRST
    query = select(call_idempotency.c.request_sha256, call_idempotency.c.answer).where(*_is(key))
    found = (await connection.execute(query)).one()
    if found.request_sha256 != key.request_sha256:
        return Repeat.OTHER_REQUEST
    answer: dict[str, Any] = found.answer
    return answer


async def keep(connection: AsyncConnection, key: RequestKey, answer: dict[str, Any]) -> None:
    """Stores the answer, JSON values without anything personal."""
    await connection.execute(update(call_idempotency).where(*_is(key)).values(answer=answer))


async def forget_old(connection: AsyncConnection, now: datetime) -> None:
    """Drops answers older than a day; a repeat after that is a new request."""
    await connection.execute(delete(call_idempotency).where(call_idempotency.c.created_at < now - KEPT))


def _is(key: RequestKey) -> tuple[Any, Any]:
    return (
        call_idempotency.c.key_id == key.key_id,
        call_idempotency.c.idempotency_key == key.idempotency_key,
    )
