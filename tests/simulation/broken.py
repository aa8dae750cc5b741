"""Deliberately broken services: what the simulation must see. Each is made by patching for the length of one life.

They are the mistakes that the design warns of (design.md, decisions 1, 7, 10, 12), each as small as it would be made.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import events
from telemetry_svc.store import outbox, ownership
from telemetry_svc.store.outbox import Waiting
from telemetry_svc.store.ownership import FencedError, Move
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, refusal_of
from telemetry_svc.stream import consumer, relay
from telemetry_svc.stream.batch import Batch
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.relay import OutboxRelay
from tests.simulation.connection import FakeConnection
from tests.simulation.roles import NotedIngest

Breaking = Callable[[], AbstractContextManager[Any]]


@contextlib.contextmanager
def no_fence() -> Iterator[None]:
    """Whoever was outrun stores all the same."""

    async def advance(connection: AsyncConnection, group_name: str, moves: Sequence[Move]) -> None:
        with contextlib.suppress(FencedError):
            await ownership.advance(connection, group_name, moves)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer, "advance", advance)
        yield


@contextlib.contextmanager
def repeats_what_is_in_doubt() -> Iterator[None]:
    """No mistake by itself: a batch whose COMMIT was not answered is stored once more, on a new connection."""
    store_once = FencedConsumer._store_once

    async def twice(self: FencedConsumer, batch: Batch, work: Any) -> None:
        try:
            await store_once(self, batch, work)
        except DATABASE_ERRORS as error:
            if refusal_of(error) is Refusal.DATA:
                raise
            await self._takeover._pin()
            await store_once(self, batch, await self._handler.prepare(batch))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FencedConsumer, "_store_once", twice)
        yield


@contextlib.contextmanager
def epoch_without_offset() -> Iterator[None]:
    """The same, under a fence that asks who the owner is and not how far he has come."""

    async def advance(connection: AsyncConnection, group_name: str, moves: Sequence[Move]) -> None:
        owners = cast(FakeConnection, connection).database.tables["partition_owner"].rows
        rows = [owners[group_name, move.partition] for move in moves]
        here = [
            replace(move, before=(row["next_offset_a"], row["next_offset_b"]))
            for move, row in zip(moves, rows, strict=True)
        ]
        await ownership.advance(connection, group_name, here)

    with repeats_what_is_in_doubt(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer, "advance", advance)
        yield


@contextlib.contextmanager
def offsets_before_results() -> Iterator[None]:
    """The offset is moved in a transaction of its own, before that of the results."""

    async def store_once(self: FencedConsumer, batch: Batch, work: Any) -> None:
        connection = await self._takeover.connection()
        async with connection.begin():
            await ownership.advance(connection, self._group, [one.move() for one in batch.slices])
        async with connection.begin():
            await self._handler.apply(connection, work)
        self._handler.committed(work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FencedConsumer, "_store_once", store_once)
        yield


@contextlib.contextmanager
def cache_before_commit() -> Iterator[None]:
    """States are remembered when they are decided, and kept when the batch fails."""
    apply, dropped, committed = NotedIngest.apply, NotedIngest.dropped, NotedIngest.committed
    in_hand: set[int] = set()

    async def remembering(self: NotedIngest, connection: AsyncConnection, work: Any) -> None:
        await apply(self, connection, work)
        self._cache.update((one, work.desk.states[one]) for one in work.desk.touched)
        in_hand.add(id(self))

    def kept(self: NotedIngest) -> None:
        if id(self) not in in_hand:
            dropped(self)
        in_hand.discard(id(self))

    def done(self: NotedIngest, work: Any) -> None:
        in_hand.discard(id(self))
        committed(self, work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NotedIngest, "apply", remembering)
        patch.setattr(NotedIngest, "dropped", kept)
        patch.setattr(NotedIngest, "committed", done)
        yield


@contextlib.contextmanager
def cache_after_revocation() -> Iterator[None]:
    """States are remembered although another owns their partition meanwhile."""

    def kept(self: NotedIngest) -> None:
        self._ticks.clear()
        self.lookout.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NotedIngest, "dropped", kept)
        yield


@contextlib.contextmanager
def outbox_by_last_id() -> Iterator[None]:
    """The relay asks for what lies behind the last row that it has sent."""
    last: dict[int, int] = {}

    async def lock_waiting(
        connection: AsyncConnection, *, buckets: int, rows: int, without: Sequence[str]
    ) -> list[Waiting]:
        database = cast(FakeConnection, connection).database
        found = await outbox.lock_waiting(connection, buckets=buckets, rows=rows, without=without)
        behind = [row for row in found if row.id > last.get(id(database), 0)]
        last[id(database)] = max((row.id for row in behind), default=last.get(id(database), 0))
        return behind

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "lock_waiting", lock_waiting)
        yield


@contextlib.contextmanager
def marked_before_sent() -> Iterator[None]:
    """The relay marks what it is about to send, so that nothing goes out twice."""

    async def relay_once(self: OutboxRelay) -> int:
        async with self._engine.begin() as connection:
            rows = await outbox.lock_waiting(connection, buckets=relay.BUCKETS_PER_PASS, rows=relay.ROWS_PER_PASS)
            await outbox.mark_sent(connection, [row.id for row in rows])
        if rows:
            await self._send(rows)
        return len(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OutboxRelay, "relay_once", relay_once)
        yield


@contextlib.contextmanager
def rows_instead_of_buckets() -> Iterator[None]:
    """Relays lock rows and pass over those of another: two have rows of one key at once."""

    async def lock_waiting(
        connection: AsyncConnection, *, buckets: int, rows: int, without: Sequence[str]
    ) -> list[Waiting]:
        here = cast(FakeConnection, connection)
        found = await outbox.lock_waiting(connection, buckets=buckets, rows=rows, without=without)
        here.let_go("outbox_bucket")
        return [row for row in found if here.takes("outbox", row.id)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "lock_waiting", lock_waiting)
        yield


@contextlib.contextmanager
def ids_by_chance() -> Iterator[None]:
    """A fact that is decided again has another id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "event_id", lambda *_: uuid.uuid4())
        yield


BROKEN: dict[str, tuple[Breaking, str]] = {
    "no_fence": (no_fence, "zombies"),
    "epoch_without_offset": (epoch_without_offset, "cuts"),
    "offsets_before_results": (offsets_before_results, "kills"),
    "cache_before_commit": (cache_before_commit, "cuts"),
    "cache_after_revocation": (cache_after_revocation, "moves"),
    "outbox_by_last_id": (outbox_by_last_id, "anything"),
    "marked_before_sent": (marked_before_sent, "kills"),
    "rows_instead_of_buckets": (rows_instead_of_buckets, "relays"),
    "ids_by_chance": (ids_by_chance, "none"),
}
"""Each with the theme under which it shows."""
