"""CloudEvents 1.0 in structured JSON, as the alert and call topics carry them (contract.md, Alerts)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.events import (
    ANOMALY_TYPE,
    MAINTENANCE_DUE_TYPE,
    Alert,
    Anomaly,
    Event,
    EventId,
    MaintenanceDue,
)
from telemetry_svc.telemetry import MachineId

CONTENT_TYPE = b"application/cloudevents+json"
HEADERS: tuple[tuple[str, bytes], ...] = (("content-type", CONTENT_TYPE),)
RULES_SOURCE = "telemetry-svc/rules"
NOTIFY_SOURCE = "telemetry-svc/notify"

_DATA_TYPES: dict[str, type[MaintenanceDue | Anomaly]] = {
    MAINTENANCE_DUE_TYPE: MaintenanceDue,
    ANOMALY_TYPE: Anomaly,
}


class Envelope(Struct, frozen=True):
    """The attributes of one event; `partitionkey` is the record's key."""

    id: UUID
    source: str
    type: str
    subject: str
    time: datetime
    partitionkey: str
    data: Any
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class _ReadEnvelope(Struct, frozen=True):
    id: UUID
    type: str
    subject: str
    time: datetime
    data: Raw


def encode(event: Event) -> bytes:
    """A decided fact as the record that goes to its alert topic; deterministic, so that a replay writes the same."""
    return msgspec.json.encode(
        Envelope(
            id=event.id,
            source=RULES_SOURCE,
            type=event.type,
            subject=event.machine_id,
            time=event.time,
            partitionkey=event.machine_id,
            data=event.data,
        )
    )


def decode(raw: bytes | None) -> Alert | Rejected:
    """An alert as a consumer reads it, or why not. Types we do not know are `invalid`. Never raises."""
    if not raw:
        return rejected(ErrorClass.MALFORMED, "the record has no value")
    try:
        envelope = msgspec.json.decode(raw, type=_ReadEnvelope)
        data_type = _DATA_TYPES.get(envelope.type)
        if data_type is None:
            return rejected(ErrorClass.INVALID, "type is no alert we know")
        data = msgspec.json.decode(envelope.data, type=data_type)
    except msgspec.ValidationError as error:
        return rejected(ErrorClass.INVALID, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return rejected(ErrorClass.MALFORMED, str(error))
    return Alert(EventId(envelope.id), envelope.type, MachineId(envelope.subject), envelope.time, data)
