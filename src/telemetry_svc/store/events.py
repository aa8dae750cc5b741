"""Decided facts, one row per id for ever: the first occurrence counts and only that one goes out."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.telemetry import MachineId


class EventRow(Struct, frozen=True):
    """A fact as it is kept: `body` is the CloudEvent's JSON text, `evidence` JSON text of what decided it.

    `rules_version`: of the service that decided it and of its rule (`raising`); `by_replay`: found missing.
    """

    machine_id: MachineId
    id: UUID
    type: str
    rule: str
    subject: str
    stage: str
    time: datetime
    body: str
    evidence: str | None = None
    rules_version: str | None = None
    by_replay: bool = False


_ADD = text(
    """
    INSERT INTO event (machine_id, id, type, rule, subject, stage, time, body, evidence, rules_version, by_replay)
    SELECT e.machine_id, e.id, e.type, e.rule, e.subject, e.stage, e.time, e.body::jsonb, e.evidence::jsonb,
           e.rules_version, e.by_replay
    FROM unnest(CAST(:machine_ids AS text[]), CAST(:ids AS uuid[]), CAST(:types AS text[]), CAST(:rules AS text[]),
                CAST(:subjects AS text[]), CAST(:stages AS text[]), CAST(:times AS timestamptz[]),
                CAST(:bodies AS text[]), CAST(:evidence AS text[]), CAST(:rules_versions AS text[]),
                CAST(:by_replay AS boolean[])) WITH ORDINALITY
         AS e (machine_id, id, type, rule, subject, stage, time, body, evidence, rules_version, by_replay, place)
    ORDER BY e.place
    ON CONFLICT (machine_id, id) DO NOTHING
    RETURNING id
    """
)


async def add_events(connection: AsyncConnection, rows: Sequence[EventRow]) -> set[UUID]:
    """Stores the facts in order; returns the ids that were not known before."""
    if not rows:
        return set()
    result = await connection.execute(
        _ADD,
        {
            "machine_ids": [row.machine_id for row in rows],
            "ids": [row.id for row in rows],
            "types": [row.type for row in rows],
            "rules": [row.rule for row in rows],
            "subjects": [row.subject for row in rows],
            "stages": [row.stage for row in rows],
            "times": [row.time for row in rows],
            "bodies": [row.body for row in rows],
            "evidence": [row.evidence for row in rows],
            "rules_versions": [row.rules_version for row in rows],
            "by_replay": [row.by_replay for row in rows],
        },
    )
    return {row[0] for row in result}
