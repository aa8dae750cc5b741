"""The API on a real database, with real keys and policies; who is told of changed contacts is written down."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.api import Desk, StreamSettings, create_router
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.rules import Policy
from telemetry_svc.store import keys
from telemetry_svc.store.keys import KeyBinding, Role
from telemetry_svc.store.schema import metadata
from telemetry_svc.store.schema.stream import outbox
from telemetry_svc.telemetry import EditionId, MachineId
from telemetry_svc.web import Authenticator, Health, create_app
from tests.web.doubles import StillClock, bearer, client_of

MACHINE = "ZE215-000017"
REV1 = EditionId("zoomlion-2011-rev1")
TEXT_EDITION = EditionId("zoomlion-2011")


TABLES = [table for table in metadata.sorted_tables if table.name not in {"outbox_bucket", "ping", "ping_outlier"}]
"""What an API could write to; of history it knows nothing."""


class House:
    """One API process and the database behind it."""

    def __init__(
        self,
        engine: AsyncEngine,
        policies: Mapping[EditionId, Policy],
        zones: frozenset[str],
        streams: StreamSettings | None = None,
    ) -> None:
        self.engine = engine
        self.clock = StillClock()
        self.keyring = Keyring.parse(new_keyring_text())
        self.policies = policies
        self.told: list[MachineId] = []
        self.desk = Desk(self.keyring, self.clock, self.policies.keys(), REV1, zones, self._contacts_changed)
        router = create_router(
            engine=engine, desk=self.desk, policies=policies, stopping=asyncio.Event(), streams=streams
        )
        self.app = create_app(
            routers=[router],
            authenticator=Authenticator.on(engine, self.clock),
            health=Health(live={}, ready={}),
            registry=CollectorRegistry(),
            version="0",
        )
        self._keys: dict[Role, str] = {}

    async def _contacts_changed(self, _: AsyncConnection, machine_ids: Sequence[MachineId]) -> None:
        self.told.extend(machine_ids)

    async def key(self, role: Role) -> str:
        """A key of that role, known once it is committed."""
        if role not in self._keys:
            binding = KeyBinding(role, all_machines=role is Role.DEVICE)
            async with self.engine.begin() as connection:
                made = await keys.create(connection, binding)
            self._keys[role] = made
        return self._keys[role]

    async def ask(self, method: str, path: str, *, role: Role = Role.OPS, **how: Any) -> httpx.Response:
        async with client_of(self.app) as client:
            return await client.request(method, path, headers=bearer(await self.key(role)), **how)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.ask("GET", path, params=params)

    async def register(self, *given: Any) -> httpx.Response:
        """One machine as an object, several as an array."""
        body = given[0] if len(given) == 1 else list(given)
        return await self.ask("POST", "/v1/machines", content=json.dumps(body))

    async def counts(self) -> dict[str, int]:
        """Rows in each table that has any, keys aside."""
        async with self.engine.connect() as connection:
            found = {}
            for table in TABLES:
                number = await connection.scalar(select(func.count()).select_from(table))
                if number and table.name != "api_key":
                    found[table.name] = number
        return found

    async def commands(self) -> list[tuple[str, bytes, dict[str, Any]]]:
        """(topic, key, value) of the outbox, in order."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(select(outbox).order_by(outbox.c.id))
            return [(row.topic, row.key, json.loads(row.value)) for row in rows]

    async def raised(self, machine_id: str, number: int, **data: Any) -> str:
        """Writes an alert as ingest would; returns its id."""
        alert_id = f"00000000-0000-4000-8000-{number:012d}"
        async with self.engine.begin() as connection:
            await insert_alert(connection, machine_id, alert_id, self.clock.now(), **data)
        return alert_id


def machine(machine_id: str = MACHINE, **more: Any) -> dict[str, Any]:
    """The least that registers."""
    return {"machine_id": machine_id, "tonnage_t": 21.5} | more


async def insert_alert(
    connection: AsyncConnection,
    machine_id: str,
    alert_id: str,
    time: datetime,
    *,
    type_: str = "excavator.maintenance_due.v1",
    **data: Any,
) -> None:
    """One row of `event`, its body a CloudEvent."""
    body = {
        "id": alert_id,
        "source": "telemetry-svc/rules",
        "type": type_,
        "subject": machine_id,
        "time": time.isoformat(),
        "partitionkey": machine_id,
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "data": {"machine_id": machine_id} | data,
    }
    statement = text(
        "INSERT INTO event (machine_id, id, type, rule, subject, stage, time, body)"
        " VALUES (:machine_id, CAST(:id AS uuid), :type, 'inspection', '250', 'due', :time, CAST(:body AS jsonb))"
    )
    values = {"machine_id": machine_id, "id": alert_id, "type": type_, "time": time, "body": json.dumps(body)}
    await connection.execute(statement, values)


async def plan_of(engine: AsyncEngine, query: Select[Any]) -> str:
    """How PostgreSQL would run a query of ours, were its table large."""
    compiled = query.compile(dialect=engine.dialect)
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    async with engine.connect() as connection:
        await connection.execute(text("SELECT set_config('enable_seqscan', 'off', true)"))
        await connection.execute(text("SELECT set_config('enable_bitmapscan', 'off', true)"))
        driver: Any = (await connection.get_raw_connection()).driver_connection
        return "\n".join([row[0] for row in await driver.fetch(f"EXPLAIN {compiled}", *values)])
