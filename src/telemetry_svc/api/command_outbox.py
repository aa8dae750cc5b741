"""Commands leave through the outbox, in the transaction that also writes their row (design.md, decision 4)."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.codec import command as codec
from telemetry_svc.store import commands, outbox
from telemetry_svc.store.commands import NewCommand
from telemetry_svc.store.outbox import OutboxMessage
from telemetry_svc.telemetry import Command


async def submit(connection: AsyncConnection, given: Sequence[Command]) -> None:
    """Writes each command as pending and puts it on its way, in this order per machine."""
    rows = [NewCommand(one.command_id, codec.machine_of(one), codec.kind_of(one), codec.body_of(one)) for one in given]
    await commands.insert(connection, rows)
    messages = [OutboxMessage(topics.COMMANDS, codec.machine_of(one).encode(), codec.encode(one)) for one in given]
    await outbox.enqueue(connection, messages)
