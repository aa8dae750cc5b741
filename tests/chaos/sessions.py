"""Who is inside a transaction right now: PostgreSQL tells the sessions, the kernel tells whose they are.

A victim is caught by SIGSTOP and looked at again while it cannot move: only if its transaction is still open was it
caught inside. What is done to it then is as if it had struck at that moment.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import asyncpg

from tests.chaos.crew import Crew, Member

LOOK_EVERY_S = 0.002
SETTLED_S = 0.004
RECONNECT_S = 0.2
REMEMBERED_S = 0.1
_SESSIONS = """
    SELECT a.pid, a.client_port, a.state = 'idle' AS idle, a.backend_xid IS NOT NULL AS writing,
           EXISTS (SELECT FROM partition_owner o
                   WHERE o.owner_pid = a.pid AND o.owner_backend_start = a.backend_start) AS pinned
    FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.application_name LIKE 'telemetry-%' AND a.client_port > 0
"""
_END_ALL = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'telemetry-%'
"""
LOST: tuple[type[Exception], ...] = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Session(NamedTuple):
    """A session of a role. `idle`: in no transaction; `writing`: in one that has written; `pinned`: owns partitions."""

    pid: int
    client_port: int
    idle: bool
    writing: bool
    pinned: bool


Wanted = Callable[[Session], bool]


def is_writing(session: Session) -> bool:
    """Inside a transaction that has written something."""
    return session.writing


def is_storing(session: Session) -> bool:
    """Inside the transaction of a batch."""
    return session.writing and session.pinned


def is_between(session: Session) -> bool:
    """An owner that is not in a transaction."""
    return session.pinned and session.idle


class Sessions:
    """A look at the database's sessions, from a connection of its own that is made anew when it is lost."""

    def __init__(self, database_url: str, crew: Crew) -> None:
        self._database_url = database_url
        self._crew = crew
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._owners: dict[int, int] = {}
        self._looked_at = 0.0

    async def catch(
        self, victims: Callable[[], Sequence[Member]], wanted: Wanted, within_s: float
    ) -> tuple[Member, Session] | None:
        """Stops one of the victims while it is as wanted. None: the time was over before."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = await self._find(victims(), wanted)
            if found is not None and await self._hold(*found, wanted):
                return found
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    async def meet(self, victims: Callable[[], Sequence[Member]], wanted: Wanted, within_s: float) -> bool:
        """Waits until one of them is as wanted, and lets it be."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if await self._find(victims(), wanted) is not None:
                return True
            await asyncio.sleep(LOOK_EVERY_S)
        return False

    async def end(self, session: Session) -> bool:
        """pg_terminate_backend on this one; whether there was one."""
        rows = await self._fetch("SELECT pg_terminate_backend($1)", session.pid)
        return bool(rows and rows[0][0])

    async def end_all(self) -> int:
        """pg_terminate_backend on every session of every role; how many."""
        rows = await self._fetch(_END_ALL)
        return rows[0][0] if rows else 0

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _find(self, victims: Sequence[Member], wanted: Wanted) -> tuple[Member, Session] | None:
        by_pid = {one.pid: one for one in victims}
        for session in await self._look():
            if wanted(session):
                member = by_pid.get(self._owner(session.client_port))
                if member is not None:
                    return member, session
        return None

    async def _hold(self, member: Member, session: Session, wanted: Wanted) -> bool:
        self._crew.stop(member)
        await asyncio.sleep(SETTLED_S)
        if any(one.pid == session.pid and wanted(one) for one in await self._look()):
            return True
        self._crew.go_on(member)
        return False

    def _owner(self, port: int) -> int:
        """The process at that end of a connection; 0 where it is none of the crew (the proxy, say)."""
        if port not in self._owners and time.monotonic() - self._looked_at > REMEMBERED_S:
            self._owners = {port: one.pid for one in self._crew.up() for port in one.ports()}
            self._looked_at = time.monotonic()
        return self._owners.get(port, 0)

    async def _look(self) -> list[Session]:
        return [Session(*row) for row in await self._fetch(_SESSIONS)]

    async def _fetch(self, query: str, *values: object) -> "list[asyncpg.Record]":
        """The rows; none while the database cannot be had."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._database_url, server_settings={"application_name": "chaos"}
                )
            return list(await self._connection.fetch(query, *values))
        except LOST:
            self._connection = None
            await asyncio.sleep(RECONNECT_S)
            return []
