"""The visits of the demo's experts: reported as the API does, each once its machine has raised what it is about."""

from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.api import command_outbox
from telemetry_svc.clock import Clock
from telemetry_svc.simulate.demo import Work
from telemetry_svc.telemetry import InspectionDone

_FACTS = text("SELECT machine_id, rule, subject, stage FROM event WHERE machine_id = ANY(:machine_ids)")


class Visits:
    """What has still to be reported."""

    def __init__(self, engine: AsyncEngine, works: tuple[Work, ...], clock: Clock) -> None:
        self._engine = engine
        self._waiting = list(works)
        self._clock = clock

    async def report(self) -> int:
        """Reports those whose time has come; returns how many."""
        if not self._waiting:
            return 0
        async with self._engine.begin() as connection:
            facts = await self._facts(connection)
            due = [work for work in self._waiting if (work.machine_id, *work.after) in facts]
            await command_outbox.submit(connection, [self._command(work) for work in due])
        self._waiting = [work for work in self._waiting if work not in due]
        return len(due)

    async def _facts(self, connection: AsyncConnection) -> set[tuple[str, ...]]:
        machine_ids = [work.machine_id for work in self._waiting]
        return {tuple(row) for row in await connection.execute(_FACTS, {"machine_ids": machine_ids})}

    def _command(self, work: Work) -> InspectionDone:
        return InspectionDone(
            command_id=uuid4(),
            machine_id=work.machine_id,
            performed_at=work.performed_at,
            received_at=self._clock.now(),
            milestone_h=work.milestone_h,
            checkup_no=work.checkup_no,
        )
