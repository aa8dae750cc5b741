"""Migrations end at exactly the declared schema, and every table that grows with the fleet starts with the machine.

After the first they only add, and stop no writer, so that images may go forward and back under load.
"""

import ast

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.migrate import current_revision, head_revision, migrations_dir, upgrade
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


_TAKES_AWAY = {"drop_column", "drop_table", "drop_constraint", "rename_table"}
_CHANGES = {"nullable", "type_", "new_column_name", "server_default"}


def _objections(source: str) -> list[str]:
    """What the code before could not live with, or its writers would wait for. `source`: of a revision."""
    forward = [one for one in ast.parse(source).body if getattr(one, "name", None) != "downgrade"]
    calls = [_parts(one) for part in forward for one in ast.walk(part) if isinstance(one, ast.Call)]
    made = {given[0] for name, given, _ in calls if name == "op.create_table"}
    return [name.removeprefix("op.") for name, given, options in calls if _is_more(name, given, options, made)]


def _parts(call: ast.Call) -> tuple[str, list[str], dict[str | None, str]]:
    options = {option.arg: ast.unparse(option.value) for option in call.keywords}
    return ast.unparse(call.func), [ast.unparse(one) for one in call.args], options


def _is_more(name: str, given: list[str], options: dict[str | None, str], made: set[str]) -> bool:
    match name.removeprefix("op."):
        case "alter_column":
            return bool(options.keys() & _CHANGES)
        case "create_index":
            return given[1] not in made and "postgresql_concurrently" not in options
        case "add_column":
            return "nullable=False" in given[1] and "server_default" not in given[1]
        case other:
            return other in _TAKES_AWAY


def test_migrations_after_the_first_only_add_and_stop_no_writer() -> None:
    scripts = sorted((migrations_dir() / "versions").glob("*.py"))[1:]
    assert scripts
    assert {path.name: _objections(path.read_text()) for path in scripts} == {path.name: [] for path in scripts}


@pytest.mark.parametrize(
    ("statement", "objections"),
    [
        ("op.drop_column('event', 'evidence')", ["drop_column"]),
        ("op.alter_column('event', 'evidence', nullable=False)", ["alter_column"]),
        ("op.alter_column('event', 'evidence', comment='what decided it')", []),
        ("op.create_index('ix_event_rule', 'event', ['rule'])", ["create_index"]),
        ("op.create_index('ix_event_rule', 'event', ['rule'], postgresql_concurrently=True)", []),
        ("op.create_table('new', sa.Column('id'))\n    op.create_index('ix_new', 'new', ['id'])", []),
        ("op.add_column('event', sa.Column('by', sa.Text(), nullable=False))", ["add_column"]),
        ("op.add_column('event', sa.Column('by', sa.Text(), nullable=False, server_default=''))", []),
    ],
)
def test_what_does_more_than_add_would_be_seen(statement: str, objections: list[str]) -> None:
    assert _objections(f"def upgrade() -> None:\n    {statement}\n") == objections


def test_tables_that_grow_with_the_fleet_have_the_machine_first() -> None:
    first = {table.name: next(iter(table.primary_key.columns)).name for table in metadata.sorted_tables}
    assert {name for name, column in first.items() if column != "machine_id"} <= NOT_BY_MACHINE.keys()
    assert {"ping", "ping_outlier", "event", "machine_state", "command"} <= first.keys() - NOT_BY_MACHINE.keys()
