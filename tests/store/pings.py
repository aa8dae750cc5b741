"""Pings on their way into history, as a batch of the consumer has them."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from telemetry_svc.store.history import StoredPing
from telemetry_svc.telemetry import MachineId, Ping
from telemetry_svc.units import Centihours

RECEIVED_AT = datetime(2026, 11, 22, 4, 20, 31, tzinfo=UTC)


def stored(machine_id: str, recorded_at: datetime = RECEIVED_AT, *, dedupe: int = 1, **fields: object) -> StoredPing:
    """One ping; `fields` are the ping's."""
    ping = Ping(machine_id=MachineId(machine_id), recorded_at=recorded_at, hour_meter_ch=Centihours(24_999))
    return StoredPing(
        ping=msgspec.structs.replace(ping, **fields),
        dedupe=dedupe,
        received_at=RECEIVED_AT,
        future=False,
        partition=0,
        topic_offset=dedupe,
        apply_seq=dedupe,
    )


def some(machine_id: str, count: int) -> Sequence[StoredPing]:
    """So many different pings of a machine at one instant."""
    return [stored(machine_id, dedupe=number) for number in range(count)]
