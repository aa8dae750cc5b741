"""Brings the database to the current schema: Alembic's migrations, one process at a time, safe to repeat."""

import asyncio
import functools
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.refusals import Refusal, refusal_of

LOCK_TIMEOUT_MS = 1_000
TRIES = 60
PAUSE_S = 0.5
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('telemetry_svc migrations'))"


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


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Runs what is missing, in one transaction under a lock, so that two starts at once do it once.

    A statement that must wait for a writer lets everybody else wait behind it: so it gives up soon, and all of it is
    tried again. Raises what the database raises, a lock not had within `TRIES` included.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return await _upgrade_once(engine, revision)
        except DBAPIError as error:
            if refusal_of(error) is not Refusal.LOCKED or attempt == TRIES:
                raise
            await asyncio.sleep(PAUSE_S)
    return None


async def _upgrade_once(engine: AsyncEngine, revision: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL transaction_timeout = 0"))
        await connection.execute(text(_LOCK))
        await connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
        await connection.run_sync(_upgrade, revision)


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
