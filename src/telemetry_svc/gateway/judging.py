"""The verdict on each ping of a request: pure, and the same classes as ingest has (contract.md, Ping v1)."""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from telemetry_svc.codec import ping as codec
from telemetry_svc.codec.rejected import ErrorClass, Rejected
from telemetry_svc.gateway.splitting import NotJsonError, document
from telemetry_svc.telemetry import MachineId, Ping
from telemetry_svc.web import Principal


class Status(StrEnum):
    """`forbidden`: a good ping of a machine for which the key may not speak."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FORBIDDEN = "forbidden"


class Judged(Struct, frozen=True):
    """One ping. `machine_id` None: it names no valid one. `is_json` False: not even RFC 8259 JSON."""

    raw: bytes
    status: Status
    machine_id: MachineId | None
    error_class: ErrorClass | None = None
    is_json: bool = True


def judge(raw: bytes, principal: Principal) -> Judged:
    """What becomes of one ping."""
    decoded = codec.decode(raw)
    match decoded:
        case Ping(machine_id=machine_id):
            status = Status.ACCEPTED if principal.may_speak_for(machine_id) else Status.FORBIDDEN
            return Judged(raw, status, machine_id)
        case Rejected(error_class=error_class):
            return _refused(raw, error_class)


def _refused(raw: bytes, error_class: ErrorClass) -> Judged:
    try:
        found = document(raw)
    except NotJsonError:
        return Judged(raw, Status.REJECTED, None, error_class, is_json=False)
    machine_id = found.get("machine_id") if isinstance(found, dict) else None
    valid = isinstance(machine_id, str) and codec.NAME.fullmatch(machine_id) is not None
    return Judged(raw, Status.REJECTED, MachineId(str(machine_id)) if valid else None, error_class)


def speaks_for_none(judged: Sequence[Judged], principal: Principal) -> bool:
    """There are pings with a valid machine id, and the key may speak for none of these machines."""
    named = {one.machine_id for one in judged if one.machine_id is not None}
    return bool(named) and not any(principal.may_speak_for(machine_id) for machine_id in named)
