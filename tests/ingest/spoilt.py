"""A decoder that lets U+0000 through: some pings of ingest hold a value that PostgreSQL refuses."""

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.ingest import writing
from telemetry_svc.store.history import StoredPing, add_pings
from telemetry_svc.telemetry import Ping


def spoil(monkeypatch: pytest.MonkeyPatch, which: Callable[[Ping], bool]) -> None:
    """From now on PostgreSQL refuses these pings, wherever they come from."""

    async def with_nul(connection: AsyncConnection, table: str, pings: Sequence[StoredPing]) -> None:
        await add_pings(connection, table, [_spoilt(one) if which(one.ping) else one for one in pings])

    monkeypatch.setattr(writing, "add_pings", with_nul)


def _spoilt(one: StoredPing) -> StoredPing:
    return replace(one, ping=replace(one.ping, device_id="a\0b"))
