"""Command v1: what our own services write to `excavator.commands` and only ingest reads.

JSON with a `type`; `received_at` is not on the wire, it is the broker's append time of the record. A tick has no
machine and no key: it names the slot of the scheduler that wrote it, its clock is the append time (decision 5).
"""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from telemetry_svc.codec.ping import MAX_BYTES, NAME
from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.telemetry import Command, InspectionDone, MachineId, MeterDecision, Registration

_KINDS: dict[str, type[Registration | InspectionDone | MeterDecision]] = {
    "registration": Registration,
    "inspection_done": InspectionDone,
    "meter_decision": MeterDecision,
}


class TickSignal(Struct, frozen=True):
    """One minute of the scheduler, in one partition. `slot` is the minute it stands for."""

    slot: datetime


def machine_of(command: Command) -> MachineId:
    """The machine that a command is about: the key of its record."""
    return command.machine.machine_id if isinstance(command, Registration) else command.machine_id


def kind_of(command: Command) -> str:
    """`type` of the command on the wire: registration, inspection_done, meter_decision."""
    return next(name for name, kind in _KINDS.items() if isinstance(command, kind))


def body_of(command: Command) -> dict[str, Any]:
    """The command as JSON values, without `received_at`."""
    body: dict[str, Any] = msgspec.to_builtins(command)
    del body["received_at"]
    return {"type": kind_of(command)} | body


def encode(command: Command) -> bytes:
    """The value of the record on `excavator.commands`; its key is `machine_of(command)`."""
    return msgspec.json.encode(body_of(command))


def encode_tick(slot: datetime) -> bytes:
    """The value of a tick; it has no key and names its partition."""
    return msgspec.json.encode({"type": "tick", "slot": slot})


def decode(raw: bytes | None, received_at: datetime) -> Command | TickSignal | Rejected:
    """A command with the broker's append time, or why not. Never raises."""
    if not raw:
        return rejected(ErrorClass.MALFORMED, "the record has no value")
    if len(raw) > MAX_BYTES:
        return rejected(ErrorClass.TOO_LARGE, f"{len(raw)} bytes; a command has at most {MAX_BYTES}")
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.ValidationError as error:
        return rejected(ErrorClass.INVALID, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return rejected(ErrorClass.MALFORMED, str(error))
    return from_body(body, received_at)


def from_body(body: dict[str, Any], received_at: datetime) -> Command | TickSignal | Rejected:
    """A command from its JSON values, as `body_of` made them."""
    kind = body.get("type")
    try:
        if kind == "tick":
            return msgspec.convert(body, TickSignal)
        if not isinstance(kind, str) or kind not in _KINDS:
            return rejected(ErrorClass.INVALID, "type is no command we know")
        command = msgspec.convert(body | {"received_at": received_at}, _KINDS[kind])
    except msgspec.ValidationError as error:
        return rejected(ErrorClass.INVALID, str(error))
    if NAME.fullmatch(machine_of(command)) is None:
        return rejected(ErrorClass.INVALID, "machine_id is not 1-64 characters of A-Z a-z 0-9 . _ -")
    return command
