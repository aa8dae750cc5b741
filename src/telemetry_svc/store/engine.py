"""Connections to PostgreSQL: one engine per process, and the session settings that the guarantees stand on.

A consumer's session must never hold a partition's fence for ever (design.md, decision 2): the server itself ends a
transaction that is idle or runs too long, and notices a peer that is gone.
"""

import asyncio

from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

MAX_POOL = 10
COMMAND_TIMEOUT_S = 75.0
"""Longer than the server lets a transaction run: who waits longer waits for a server that is gone without a word."""

CLOSING_S = 2.0


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
    return create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "server_settings": _session_settings(application_name),
            "timeout": 10,
            "command_timeout": command_timeout_s,
        },
    )


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
