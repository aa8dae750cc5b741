"""Which database this is, so that a restored one is known as such (faults.md, 48).

The row notes the server, the timeline of its log, the database, and the transaction that wrote the row. After a restore
to a point in time the timeline differs; a logical one writes the row anew, so its transaction differs, in the same
database too. Until `telemetry-svc recover` has run, no call is given out.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

RECOVERING = "recovering"

_HERE = """
    (SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
            || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
# xmin has 32 bits and stays when the row is frozen or moved by VACUUM.
_WRITTEN_HERE = f"{_HERE} || '/' || pg_current_xact_id()::xid"
_FIRST = text(f"INSERT INTO database_identity (id, identity) VALUES (1, {_WRITTEN_HERE}) ON CONFLICT DO NOTHING")
_NOTE = text(
    f"""
    INSERT INTO database_identity (id, identity) VALUES (1, {_WRITTEN_HERE})
    ON CONFLICT (id) DO UPDATE SET identity = excluded.identity, noted_at = now()
    """
)
_SET = text(
    """
    INSERT INTO database_identity (id, identity) VALUES (1, :identity)
    ON CONFLICT (id) DO UPDATE SET identity = excluded.identity, noted_at = now()
    """
)
_RESTORED = text(f"SELECT EXISTS (SELECT FROM database_identity WHERE identity <> {_HERE} || '/' || xmin)")


async def note_first(connection: AsyncConnection) -> None:
    """Notes where a new database is; of a restored one nothing is noted before it was recovered. In no savepoint."""
    await connection.execute(_FIRST)


async def was_restored(connection: AsyncConnection) -> bool:
    """Whether the rows were written elsewhere, or a recovery has begun and not ended."""
    return bool(await connection.scalar(_RESTORED))


async def begin_recovery(connection: AsyncConnection) -> None:
    """No call is given out from here on, also where the restore itself could not be seen (a disk's snapshot)."""
    await connection.execute(_SET, {"identity": RECOVERING})


async def end_recovery(connection: AsyncConnection) -> None:
    """What is here is what happened, as far as anybody knows: calls are given out again."""
    await connection.execute(_NOTE)
