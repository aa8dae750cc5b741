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

    `rules_version`: of the service and of the rule that decided, as `raising` writes it; `by_replay`: a replay found it
    missing and added it.
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

    @property
    def rule_version(self) -> int | None:
        """The number that the rule declared then; `None` where it was not recorded."""
        _, plus, number = (self.rules_version or "").rpartition("+")
        return int(number) if plus else None

    @property
    def service_version(self) -> str | None:
        return self.rules_version and self.rules_version.removesuffix(f"+{self.rule_version}")


async def decision(connection: AsyncConnection, alert_id: UUID) -> Decision | None:
    """The fact of that id."""
    columns = [event.c[name] for name in Decision.__struct_fields__]
    row = (await connection.execute(select(*columns).where(event.c.id == alert_id))).one_or_none()
    return None if row is None else Decision(*row)
