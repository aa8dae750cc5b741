"""A simulated fleet as the service meets one: registered through the front door, its pings as bytes for the topic."""

from collections.abc import Iterator

import msgspec

from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.api.registration import register
from telemetry_svc.app import Service
from telemetry_svc.simulate.delivery import iter_deliveries
from telemetry_svc.simulate.fleet import Fleet, registration

REGISTER_AT_ONCE = 1_000


async def register_fleet(service: Service, fleet: Fleet) -> None:
    """Registers every machine of a simulated fleet, as a client of the API would."""
    fields = [MachineFields.model_validate_json(msgspec.json.encode(registration(plan))) for plan in fleet.plans]
    for start in range(0, len(fields), REGISTER_AT_ONCE):
        async with service.engine.begin() as connection:
            await register(connection, service.registration, fields[start : start + REGISTER_AT_ONCE], quiet=False)


def values(fleet: Fleet) -> Iterator[tuple[str, bytes]]:
    """(machine id, value) of each delivery, in the order of the broker."""
    encode = msgspec.json.Encoder().encode
    for delivery in iter_deliveries(fleet):
        yield delivery.machine_id, encode(delivery.ping)
