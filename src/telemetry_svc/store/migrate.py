"""Brings the database to the current schema: Alembic's migrations, one process at a time, safe to repeat.

Each revision is a transaction of its own, so that a lock on a table that others write ends with its revision.
"""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.refusals import Refusal, refusal_of

LOCK_TIMEOUT_MS = 1_000
TRIES = 60
PAUSE_S = 0.5
COMMAND_TIMEOUT_S = 3_600.0
"""An index of a large table takes its time."""
_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtext('telemetry_svc migrations'))")


def migrations_dir() -> Path:
    """Where the migrations are: inside an installed package, or beside `src` in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


def head_revision() -> str:
    """The revision that this version of the code needs."""
    head = ScriptDirectory(str(migrations_dir())).get_current_head()
    assert head is not None  # noqa: S101 - there is always a first migration
    return head


@functools.cache
def _known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory(str(migrations_dir())).walk_revisions())


async def is_behind(engine: AsyncEngine) -> bool:
    """Whether `migrate` must run first. A revision that we do not know is that of a later version, which has added to
    ours: during a rolling upgrade, and after going back, the old code works on."""
    revision = await current_revision(engine)
    return revision is None or (revision in _known_revisions() and revision != head_revision())


async def newer_revision(engine: AsyncEngine) -> str | None:
    """The database's revision where it is of a later version than this code: there is nothing to migrate then."""
    revision = await current_revision(engine)
    later = revision is not None and revision not in _known_revisions() and revision > head_revision()
    return revision if later else None


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Runs what is missing, under a lock, so that two starts at once do it once: the second waits for the first.

    A statement that must wait for a writer lets everybody else wait behind it: so it gives up soon, and its revision is
    tried again. Raises what the database raises, a lock not had within `TRIES` included.
    """
    refused = 0
    while True:
        try:
            if await _upgrade_once(engine, revision):
                return
        except DBAPIError as error:
            refused += 1
            if refusal_of(error) is not Refusal.LOCKED or refused == TRIES:
                raise
        await asyncio.sleep(PAUSE_S)


async def _upgrade_once(engine: AsyncEngine, revision: str) -> bool:
    """False where another one migrates. It is asked, not waited for: CREATE INDEX CONCURRENTLY would wait for us."""
    async with engine.connect() as connection:
        if not await connection.scalar(_TRY_LOCK):
            return False
        try:
            await connection.execute(text("SET transaction_timeout = 0"))
            await connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
            await connection.commit()
            await connection.run_sync(_upgrade, revision)
        finally:
            await connection.invalidate()  # lock and settings end with the session
    return True


@contextmanager
def beside_writers() -> Iterator[None]:
    """In a revision: for CREATE INDEX CONCURRENTLY and its like, for which nobody waits however long they take.

    Nothing in it is undone when it fails, so it stands first in its revision and holds only what may be repeated.
    """
    try:
        with op.get_context().autocommit_block():
            op.execute("SET lock_timeout = 0")
            yield
            op.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
    except PendingRollbackError as error:  # the session was lost; by what, its cause says
        raise error.__context__ or error from None


async def current_revision(engine: AsyncEngine) -> str | None:
    """The revision the database is at; None for an empty one."""
    async with engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


def _upgrade(connection: Connection, revision: str) -> None:
    command.upgrade(config_for(connection), revision)


def config_for(connection: Connection) -> Config:
    """Alembic's configuration for a connection that is already open."""
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
