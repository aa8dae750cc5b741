"""One decided fact with everything that is kept beside it, for whoever asks why."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.telemetry import event
from telemetry_svc.telemetry import MachineId


class Decision(Struct, frozen=True):
    """`body`: the CloudEvent; `evidence`: what decided it; `decided_at`: when it was noticed.

    `rules_version`: of the service whose rules decided; `by_replay`: a replay found it missing and added it.
    """

    machine_id: MachineId
    rule: str
    subject: str
    stage: str
    time: datetime
    body: dict[str, Any]
    evidence: list[Any] | None
    decided_at: datetime
    rules_version: str | None
    by_replay: bool


async def decision(connection: AsyncConnection, alert_id: UUID) -> Decision | None:
    """The fact of that id."""
    columns = [event.c[name] for name in Decision.__struct_fields__]
    row = (await connection.execute(select(*columns).where(event.c.id == alert_id))).one_or_none()
    return None if row is None else Decision(*row)
