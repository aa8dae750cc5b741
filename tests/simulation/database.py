"""A PostgreSQL in memory, as far as the service leans on it: READ COMMITTED, row locks, unique keys, sessions that end.

Rows are dicts under their key. A transaction writes into an overlay of its own, and COMMIT lays it over the table. A
lock is held until the transaction ends; numbers of an identity column are given out at once and never taken back, so
rows commit out of their order. `test_*_behaviour.py` hold all of this to the real server.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import asyncpg

from tests.simulation.virtual_time import LoopClock

Key = tuple[Any, ...]
Row = dict[str, Any]
IDLE_LIMIT_S = 10.0
AGE_LIMIT_S = 60.0


class WaitsFor(Exception):
    """The statement cannot go on before another transaction has ended; it is tried again then."""

    def __init__(self, holder: "Transaction") -> None:
        super().__init__()
        self.holder = holder


class Table:
    """`identity`: the column that numbers the rows. `key`: the columns of the primary key."""

    def __init__(self, name: str, key: tuple[str, ...], identity: str | None = None) -> None:
        self.name = name
        self.key = key
        self.identity = identity
        self.rows: dict[Key, Row] = {}
        self.last_number = 0

    def key_of(self, row: Mapping[str, Any]) -> Key:
        return tuple(row[name] for name in self.key)


class Transaction:
    """An open transaction; everything in it is undone unless `commit` is reached."""

    def __init__(self, database: "Database", session: "Session") -> None:
        self.database = database
        self.session = session
        self.lock_timeout_s: float | None = None
        self.failed = False
        self.waits_for: Transaction | None = None
        self.notes: list[Any] = []
        self.after_commit: list[Callable[[], None]] = []
        self._writes: dict[str, dict[Key, Row | None]] = defaultdict(dict)
        self._unchecked: set[str] = set()
        self._locks: list[tuple[str, Key]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self.ended = False

    def now(self) -> datetime:
        return self.database.clock.now()

    def get(self, table: str, key: Key) -> Row | None:
        """The row as this transaction sees it now."""
        writes = self._writes.get(table)
        if writes is not None and key in writes:
            return writes[key]
        return self.database.tables[table].rows.get(key)

    def rows(self, table: str) -> Iterator[tuple[Key, Row]]:
        """All rows as this transaction sees them now."""
        writes = self._writes.get(table)
        if not writes:
            yield from list(self.database.tables[table].rows.items())
            return
        for key, row in list(self.database.tables[table].rows.items()):
            if key not in writes:
                yield key, row
        for key, written in list(writes.items()):
            if written is not None:
                yield key, written

    def lock(self, table: str, key: Key, *, skip: bool = False) -> bool:
        """Holds the row. False with `skip` where somebody else does; without, raises `WaitsFor`."""
        holder = self.database.locks.get((table, key))
        if holder is self:
            return True
        if holder is not None and (holder := self.database.holder(table, key)) is not None:
            if skip:
                return False
            raise WaitsFor(holder)
        self.database.locks[table, key] = self
        self._locks.append((table, key))
        return True

    def let_go(self, table: str) -> None:
        """No PostgreSQL does this; see `broken.py`."""
        for lock in [lock for lock in self._locks if lock[0] == table]:
            del self.database.locks[lock]
            self._locks.remove(lock)

    def put(self, table: str, row: Row) -> Row:
        """Writes a row, with its number where the table gives some and it has none."""
        row = self.numbered(table, row)
        key = self.database.tables[table].key_of(row)
        self._write(table, key, row)
        return row

    def _write(self, table: str, key: Key, row: Row | None) -> None:
        self.lock(table, key)
        self._writes[table][key] = row
        if table in self.database.checks:
            self._unchecked.add(table)

    def numbered(self, table: str, row: Row) -> Row:
        """The row with the next number of its table's identity column, which is never given again."""
        place = self.database.tables[table]
        if place.identity is None or place.identity in row:
            return row
        place.last_number += 1
        return row | {place.identity: place.last_number}

    def delete(self, table: str, key: Key) -> None:
        self._write(table, key, None)

    def check(self) -> None:
        """Unique indexes beside the primary keys, at the end of a statement that wrote."""
        for table in self._unchecked:
            self.database.checks[table](self)
        self._unchecked.clear()

    def written(self, table: str) -> Mapping[Key, Row | None]:
        return self._writes.get(table, {})

    def commit(self) -> None:
        for table, writes in self._writes.items():
            rows = self.database.tables[table].rows
            for key, row in writes.items():
                before = rows.get(key)
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
                for watch in self.database.watches.get(table, ()):
                    watch(before, row)
        self.database.notes += self.notes
        self._end()
        for action in self.after_commit:
            action()

    def rollback(self) -> None:
        self._end()

    def _end(self) -> None:
        self.ended = True
        for lock in self._locks:
            self.database.locks.pop(lock, None)
        self._locks.clear()
        self.session.transaction = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, holder: "Transaction") -> None:
        """Waits until the holder has ended. Raises 55P03 after `lock_timeout_s`, 40P01 where it waits for us."""
        place: Transaction | None = holder
        while place is not None:
            if place is self:
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            place = place.waits_for
        loop = asyncio.get_running_loop()
        gives_up_s = loop.time() + (AGE_LIMIT_S if self.lock_timeout_s is None else self.lock_timeout_s)
        waiter: asyncio.Future[None] = loop.create_future()
        holder._waiters.append(waiter)
        self.waits_for = holder
        try:
            await asyncio.wait([waiter], timeout=min(gives_up_s, holder.session.idle_limit_s()) - loop.time() + 0.001)
        finally:
            self.waits_for = None
            if waiter in holder._waiters:
                holder._waiters.remove(waiter)
        if not waiter.done():
            holder.session.end_if_idle()
            if loop.time() >= gives_up_s:
                raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")


class Session:
    """A backend. `pid` tells it from all others of the database's life."""

    def __init__(self, database: "Database", pid: int) -> None:
        self.database = database
        self.pid = pid
        self.alive = True
        self.transaction: Transaction | None = None
        self.busy = False
        self.quiet_since_s = 0.0

    def begin(self) -> Transaction:
        self.transaction = Transaction(self.database, self)
        self.database.xid += 1
        return self.transaction

    def idle_limit_s(self) -> float:
        """When the server ends the session for sleeping in its transaction."""
        if self.busy:
            return self.database.loop.time() + AGE_LIMIT_S
        return self.quiet_since_s + IDLE_LIMIT_S

    def end_if_idle(self) -> None:
        if self.transaction is not None and not self.busy and self.database.loop.time() >= self.idle_limit_s():
            self.end()

    def end(self) -> None:
        """The server ends it, or its client is gone; what it had open is undone."""
        if not self.alive:
            return
        self.alive = False
        self.database.sessions.pop(self.pid, None)
        if self.transaction is not None:
            self.transaction.rollback()


class Database:
    """The server with its tables. `notes` of committed transactions stand in the order of their commits."""

    def __init__(self, tables: list[Table], rng: random.Random) -> None:
        self.tables = {table.name: table for table in tables}
        self.rng = rng
        self.clock = LoopClock()
        self.loop = asyncio.get_running_loop()
        self.locks: dict[tuple[str, Key], Transaction] = {}
        self.sessions: dict[int, Session] = {}
        self.notes: list[Any] = []
        self.checks: dict[str, Callable[[Transaction], None]] = {}
        self.watches: dict[str, list[Callable[[Row | None, Row | None], None]]] = defaultdict(list)
        self.on_notify: list[Callable[[], None]] = []
        self.is_heard = True
        self.refuses: Callable[[Row], bool] = lambda _: False
        self.down = False
        self.xid = 0
        self._last_pid = 0

    def connect(self) -> Session:
        if self.down:
            raise ConnectionRefusedError("the database is down")
        self._last_pid += 1
        session = self.sessions[self._last_pid] = Session(self, self._last_pid)
        return session

    def holder(self, table: str, key: Key) -> Transaction | None:
        """Who holds the row, after the server has ended whoever slept too long."""
        holder = self.locks.get((table, key))
        if holder is not None:
            holder.session.end_if_idle()
            return self.locks.get((table, key))
        return None

    def stop(self) -> None:
        self.down = True
        for session in list(self.sessions.values()):
            session.end()

    def start(self) -> None:
        self.down = False

    def committed(self, table: str) -> list[Row]:
        """The rows as anybody sees them, in the order in which they were first written."""
        return list(self.tables[table].rows.values())
