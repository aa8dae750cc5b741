"""A simulated fleet as the service meets one: registered through the front door, its pings as bytes for the topic."""

import asyncio
import time
from collections.abc import Iterator

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.api.registration import register
from telemetry_svc.app import Service
from telemetry_svc.simulate.delivery import iter_deliveries
from telemetry_svc.simulate.fleet import Fleet, registration
from telemetry_svc.store.states import load_states

REGISTER_AT_ONCE = 1_000
KNOWN_POLL_S = 0.1


async def register_fleet(service: Service, fleet: Fleet) -> None:
    """Registers every machine of a simulated fleet, as a client of the API would."""
    fields = [MachineFields.model_validate_json(msgspec.json.encode(registration(plan))) for plan in fleet.plans]
    for start in range(0, len(fields), REGISTER_AT_ONCE):
        async with service.engine.begin() as connection:
            await register(connection, service.registration, fields[start : start + REGISTER_AT_ONCE], quiet=False)


async def until_known(engine: AsyncEngine, fleet: Fleet, within_s: float) -> None:
    """Waits until ingest knows every machine, else its first pings would be dead letters for a while.

    Not longer than `within_s`: where no ingest runs they are taken up once one does.
    """
    machine_ids = [plan.machine.machine_id for plan in fleet.plans]
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        async with engine.connect() as connection:
            if len(await load_states(connection, machine_ids)) == len(machine_ids):
                return
        await asyncio.sleep(KNOWN_POLL_S)


def values(fleet: Fleet) -> Iterator[tuple[str, bytes]]:
    """(machine id, value) of each delivery, in the order of the broker."""
    encode = msgspec.json.Encoder().encode
    for delivery in iter_deliveries(fleet):
        yield delivery.machine_id, encode(delivery.ping)
