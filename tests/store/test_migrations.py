"""Migrations end at exactly the declared schema, and every table that grows with the fleet starts with the machine."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.migrate import current_revision, head_revision, upgrade
from telemetry_svc.store.schema import metadata
from telemetry_svc.store.schema.base import belongs_to_schema

NOT_BY_MACHINE = {
    "partition_owner": "one row per partition",
    "topic_layout": "one row per topic",
    "offset_gap": "one row per gap",
    "outbox": "kept short",
    "outbox_bucket": "64 rows",
    "dead_letter": "kept short",
    "api_key": "one row per key",
    "personal_access": "an audit trail, by time",
    "call_idempotency": "kept short",
    "schedule_slot": "kept short",
    "schedule_lease": "one row",
    "database_identity": "one row",
}


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection,
        opts={"include_name": belongs_to_schema, "compare_type": True, "compare_server_default": True},
    )
    return list(compare_metadata(context, metadata))


async def test_upgrade_head_is_the_declared_schema(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_a_difference_would_be_seen(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("ALTER TABLE event DROP COLUMN evidence"))
        assert len(await connection.run_sync(_differences)) == 1
        await connection.rollback()


async def test_migrating_twice_does_nothing(engine: AsyncEngine) -> None:
    await upgrade(engine)
    assert await current_revision(engine) == head_revision()


def test_tables_that_grow_with_the_fleet_have_the_machine_first() -> None:
    first = {table.name: next(iter(table.primary_key.columns)).name for table in metadata.sorted_tables}
    assert {name for name, column in first.items() if column != "machine_id"} <= NOT_BY_MACHINE.keys()
    assert {"ping", "ping_outlier", "event", "machine_state", "command"} <= first.keys() - NOT_BY_MACHINE.keys()
