"""Connections to PostgreSQL: one engine per process, and the session settings that the guarantees stand on.

A consumer's session must never hold a partition's fence for ever (design.md, decision 2): the server itself ends a
transaction that is idle or runs too long, and notices a peer that is gone. Nor may a server that says nothing hold us.
"""

import asyncio
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

MAX_POOL = 10
COMMAND_TIMEOUT_S = 75.0
"""Longer than the server lets a transaction run: who waits longer waits for a server that is gone without a word."""
GIVING_UP_S = 2.0
"""So long a statement that nobody waits for any more may take to be cancelled by the server."""


CLOSING_S = 2.0
USED = "telemetry_was_used"
DRIVER_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises; the last where a connection was given back in the midst of an operation that was cut off."""
NO_ANSWER: tuple[type[Exception], ...] = (*DRIVER_ERRORS, OSError, TimeoutError)
"""Where whoever asks is to ask again: the driver's errors, the network's, or nothing in time."""


class Line(asyncpg.Connection):
    """A connection on which giving a statement up takes no longer than `GIVING_UP_S`: then it is hung up.

    asyncpg asks the server to cancel, and whatever comes next on the connection (the ROLLBACK) waits for the answer; by
    itself as long as for a statement. So no limit of ours, nor the end of the process, would be one.
    """

    async def _cancel(self, *waiters: Any) -> None:
        hanging_up = asyncio.get_running_loop().call_later(GIVING_UP_S, self.terminate)
        try:
            await super()._cancel(*waiters)  # type: ignore[misc]
        finally:
            hanging_up.cancel()


class BadDatabaseUrl(ValueError):
    """The setting is no PostgreSQL address. The text never repeats a password."""


def create_engine(
    database_url: str,
    *,
    application_name: str,
    pool_size: int = MAX_POOL,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
) -> AsyncEngine:
    """An engine for `postgresql://…`; connects at first use. Raises `BadDatabaseUrl`."""
    engine = create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={
            "server_settings": _session_settings(application_name),
            "timeout": 10,
            "command_timeout": command_timeout_s,
            "connection_class": Line,
        },
    )
    event.listen(engine.sync_engine, "checkout", _look_whether_it_answers)
    return engine


def _look_whether_it_answers(connection: Any, record: Any, _proxy: Any) -> None:
    """Before each use but the first: one that was just made is believed.

    Not by `pool_pre_ping`: its ping has a ROLLBACK behind it, whose failure hides that the ping was cancelled, and
    whoever was to stop waits for a new connection instead.
    """
    if not record.info.get(USED):
        record.info[USED] = True
        return
    try:
        connection.run_async(lambda line: line.execute("SELECT 1"))
    except NO_ANSWER as error:
        raise InvalidatePoolError from error


async def dispose(engine: AsyncEngine) -> None:
    """Closes its connections, not longer than a moment: those to a server that says nothing end with the process."""
    closing = asyncio.ensure_future(engine.dispose())
    _, late = await asyncio.wait([closing], timeout=CLOSING_S)
    for one in late:
        one.cancel()


def driver_url(database_url: str) -> URL:
    """The same address for our driver; asks nobody whether anything is there. Raises `BadDatabaseUrl`."""
    try:
        url = make_url(database_url)
    except Exception as error:
        message = "TELEMETRY_DATABASE_URL is not an address like postgresql://user:password@host:5432/name"
        raise BadDatabaseUrl(message) from error
    if url.drivername not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        message = f"TELEMETRY_DATABASE_URL starts with {url.drivername}://; it must be postgresql://…"
        raise BadDatabaseUrl(message)
    unknown = sorted(url.query.keys() - {"sslmode"})
    if unknown:
        message = f"TELEMETRY_DATABASE_URL: {', '.join(unknown)} is no option we know; sslmode is the only one"
        raise BadDatabaseUrl(message)
    tls = {"ssl": url.query["sslmode"]} if "sslmode" in url.query else {}
    return url.set(drivername="postgresql+asyncpg", query=tls)


def _session_settings(application_name: str) -> dict[str, str]:
    return {
        "application_name": application_name,
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": "10s",
        "transaction_timeout": "60s",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
    }
