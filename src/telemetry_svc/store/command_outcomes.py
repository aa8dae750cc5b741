"""What became of a command: the API shows it, a repeat of the record is recognised by it, a replay orders by it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.telemetry import MachineId


class CommandOutcome(Struct, frozen=True):
    """`reason` is set when the rules refused it. `body` is the command's JSON text."""

    machine_id: MachineId
    command_id: UUID
    kind: str
    body: str
    received_at: datetime
    partition: int
    apply_seq: int
    reason: str | None = None


_SETTLED = text(
    """
    SELECT id FROM command
    WHERE machine_id = ANY(CAST(:machine_ids AS text[])) AND id = ANY(CAST(:ids AS uuid[])) AND status <> 'pending'
    """
)

_SETTLE = text(
    """
    INSERT INTO command (machine_id, id, kind, body, status, reason, received_at, partition, apply_seq)
    SELECT c.machine_id, c.id, c.kind, c.body::jsonb, CASE WHEN c.reason IS NULL THEN 'applied' ELSE 'rejected' END,
           c.reason, c.received_at, c.partition, c.apply_seq
    FROM unnest(CAST(:machine_ids AS text[]), CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:bodies AS text[]),
                CAST(:reasons AS text[]), CAST(:received_ats AS timestamptz[]), CAST(:partitions AS smallint[]),
                CAST(:apply_seqs AS bigint[]))
         AS c (machine_id, id, kind, body, reason, received_at, partition, apply_seq)
    ON CONFLICT (machine_id, id) DO UPDATE
    SET status = excluded.status, reason = excluded.reason, received_at = excluded.received_at,
        partition = excluded.partition, apply_seq = excluded.apply_seq
    """
)


async def settled_commands(connection: AsyncConnection, commands: Sequence[tuple[MachineId, UUID]]) -> set[UUID]:
    """Those of the commands that were applied or rejected before: the record is a repeat."""
    if not commands:
        return set()
    rows = await connection.execute(
        _SETTLED, {"machine_ids": [one[0] for one in commands], "ids": [one[1] for one in commands]}
    )
    return {row[0] for row in rows}


async def settle_commands(connection: AsyncConnection, outcomes: Sequence[CommandOutcome]) -> None:
    """Writes what became of the commands; a row that a restore has lost is made again."""
    if outcomes:
        await connection.execute(
            _SETTLE,
            {
                "machine_ids": [outcome.machine_id for outcome in outcomes],
                "ids": [outcome.command_id for outcome in outcomes],
                "kinds": [outcome.kind for outcome in outcomes],
                "bodies": [outcome.body for outcome in outcomes],
                "reasons": [outcome.reason for outcome in outcomes],
                "received_ats": [outcome.received_at for outcome in outcomes],
                "partitions": [outcome.partition for outcome in outcomes],
                "apply_seqs": [outcome.apply_seq for outcome in outcomes],
            },
        )
