"""Commands as the person who gave them sees them: pending, applied, or rejected and why.

A row is written in the transaction that puts the command into the outbox; ingest settles it when it applies it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.telemetry import command
from telemetry_svc.telemetry import MachineId


class NewCommand(Struct, frozen=True):
    """A command about to go out; `body` is its JSON as values."""

    id: UUID
    machine_id: MachineId
    kind: str
    body: dict[str, Any]


class CommandRow(Struct, frozen=True):
    """What became of a command. `status`: pending, applied or rejected; `reason` only where rejected."""

    id: UUID
    machine_id: MachineId
    kind: str
    status: str
    reason: str | None
    created_at: datetime


async def insert(connection: AsyncConnection, commands: Sequence[NewCommand]) -> None:
    """Writes them as pending."""
    if not commands:
        return
    rows = [
        {"id": new.id, "machine_id": new.machine_id, "kind": new.kind, "body": new.body, "status": "pending"}
        for new in commands
    ]
    await connection.execute(command.insert(), rows)


async def get(connection: AsyncConnection, command_id: UUID) -> CommandRow | None:
    """One command by its id."""
    columns = [command.c[name] for name in CommandRow.__struct_fields__]
    row = (await connection.execute(select(*columns).where(command.c.id == command_id))).one_or_none()
    return None if row is None else CommandRow(*row)
