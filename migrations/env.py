"""Alembic's entry: runs on the connection that `telemetry_svc.store.migrate` hands in, or on TELEMETRY_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from telemetry_svc.store.schema import metadata
from telemetry_svc.store.schema.base import belongs_to_schema


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=belongs_to_schema,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
