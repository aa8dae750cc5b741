"""A call service on the run's real database: machines with contacts, alerts taken, calls claimed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.calls import CallTask, ExpertId
from telemetry_svc.events import Alert
from telemetry_svc.notify.claims import CallDesk
from telemetry_svc.notify.notifier import Notifier, RejectedAlert
from telemetry_svc.notify.queues import Queues
from telemetry_svc.privacy import Keyring
from telemetry_svc.store import call_tasks, contacts, machines
from telemetry_svc.store.call_claims import Claimant, Lease
from telemetry_svc.store.contacts import Contact
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.telemetry import Machine, MachineId
from tests.notify.alerts import EDITION, inspection

MARKED_NAME = "马克记号"
MARKED_PHONE = "+8613812345678"
CUSTOMER = Contact(MARKED_NAME, MARKED_PHONE)


@dataclass
class CallService:
    """Notifier and desk, each call in a transaction of its own."""

    engine: AsyncEngine
    keyring: Keyring
    queues: Queues

    @property
    def desk(self) -> CallDesk:
        return CallDesk(self.queues, self.keyring)

    async def register(
        self, *machine_ids: str, people: Sequence[Contact] = (CUSTOMER,), **fields: Any
    ) -> list[MachineId]:
        """Machines with these contacts; `expert_id`, `team_id`, `customer_id` as given."""
        now = datetime.now(UTC)
        customer_id = fields.pop("customer_id", None)
        ids = [MachineId(machine_id) for machine_id in machine_ids]
        rows = [MachineRow(Machine(m, 22.5, EDITION, customer_id=customer_id), now, now, **fields) for m in ids]
        async with self.engine.begin() as connection:
            await machines.insert_new(connection, rows)
            await contacts.replace(connection, self.keyring, {m: dict(enumerate(people)) for m in ids})
        return ids

    async def take(self, *alerts: Alert, now: datetime | None = None) -> tuple[RejectedAlert, ...]:
        """What the consumer does with a batch."""
        async with self.engine.begin() as connection:
            return await Notifier(self.queues).apply(connection, alerts, now or datetime.now(UTC))

    async def raise_one_each(self, machine_ids: Sequence[MachineId]) -> None:
        """One due inspection for each machine."""
        await self.take(*(inspection(250, "due", machine_id) for machine_id in machine_ids))

    async def claim(self, expert_id: str = "EXP-9", most: int = 1, lease_s: float = 120) -> list[Lease]:
        async with self.engine.begin() as connection:
            leases = await self.desk.claim(connection, Claimant(ExpertId(expert_id)), most, lease_s)
        assert isinstance(leases, list)
        return leases

    async def task_of(self, machine_id: MachineId) -> CallTask:
        """The machine's open task."""
        async with self.engine.begin() as connection:
            return (await call_tasks.lock_open(connection, [machine_id]))[machine_id]

    async def sweep(self) -> int:
        async with self.engine.begin() as connection:
            return await self.desk.sweep(connection)

    async def run(self, statement: str, **values: Any) -> None:
        """Lets time pass by moving what is stored."""
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def rows(self, query: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(text(query), values)).all())

    async def count(self, table: str) -> int:
        [row] = await self.rows(f"SELECT count(*) FROM {table}")
        return int(row[0])

    async def announced(self) -> list[dict[str, Any]]:
        """What goes out on `excavator.calls`, in order."""
        return [json.loads(row.value) for row in await self.rows("SELECT value FROM outbox ORDER BY id")]
