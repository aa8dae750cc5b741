"""What else keeps two owners apart is taken away; the fence must hold alone. By itself no broken build.

Who wakes up hears late that he was put out of the group, as with a coordinator that is slow to answer, and works on
until then. And history's key, which would show him that he is not alone, lets him store what is new without a word.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka.consumer.group_coordinator import GroupCoordinator
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.ingest import writing
from telemetry_svc.store.history import PingKey, StoredPing, add_pings, known_pings
from telemetry_svc.stream.hints import OffsetHints

ASLEEP_S = 9.0
"""Longer than between any two heartbeats of who is awake."""
HEARS_AFTER_S = 5.0


def apply() -> None:
    _hears_late()
    setattr(writing, "add_pings", add_what_is_new)  # noqa: B010 - mypy would have it exported


def _hears_late() -> None:
    ask = GroupCoordinator._do_heartbeat
    asked_at: dict[int, float] = {}

    async def asks_late(self: GroupCoordinator) -> bool:
        if time.monotonic() - asked_at.get(id(self), time.monotonic()) > ASLEEP_S:
            await asyncio.sleep(HEARS_AFTER_S)
        asked_at[id(self)] = time.monotonic()
        return bool(await ask(self))  # type: ignore[no-untyped-call]

    setattr(GroupCoordinator, "_do_heartbeat", asks_late)  # noqa: B010 - a method is not assigned to
    setattr(OffsetHints, "tell", lambda *_: None)  # noqa: B010 - he would hear of it by the answer


async def add_what_is_new(connection: AsyncConnection, table: str, pings: Sequence[StoredPing]) -> None:
    """As `add_pings`, without an error for what another owner has stored meanwhile."""
    known = await known_pings(connection, [_key(one) for one in pings])
    await add_pings(connection, table, [one for one in pings if _key(one) not in known])


def _key(one: StoredPing) -> PingKey:
    return (one.ping.machine_id, one.ping.recorded_at, one.dedupe)
