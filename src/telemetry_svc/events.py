"""The nouns of what goes out: facts with an id that is the same for ever.

An event is the edge of a state, its id is derived from its cause (design.md, decision 7): whoever decides the same fact
again, after a crash, a replay or a late ping, makes the same id, and the database keeps one row of it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID, uuid5

from msgspec import Struct

from telemetry_svc.telemetry import EditionId, MachineId

EventId = NewType("EventId", UUID)

NAMESPACE = UUID("6f1d2c4e-8a53-5b7e-9c0d-3e2a7b4f1d60")
"""Namespace of every id, contract.md (Alerts)."""

MAINTENANCE_DUE_TYPE = "excavator.maintenance_due.v1"
ANOMALY_TYPE = "excavator.anomaly.v1"


class Severity(StrEnum):
    """Least to most severe: see `SEVERITY_RANK`. Critical and major are 重大故障, general is 一般故障 (policy.md)."""

    WARNING = "warning"
    GENERAL = "general"
    MAJOR = "major"
    CRITICAL = "critical"


SEVERITY_RANK: dict[Severity, int] = {severity: rank for rank, severity in enumerate(Severity)}


class FaultDetail(Struct, frozen=True):
    """The code of a fault anomaly. `description` is English; the call script has both languages."""

    spn: int
    fmi: int
    source_address: int
    lamp: str
    description: str | None = None


class MaintenanceDue(Struct, frozen=True):
    """`data` of `excavator.maintenance_due.v1` (contract.md). Hours in h; times are aware UTC."""

    machine_id: MachineId
    kind: Literal["inspection", "warranty", "checkup"]
    stage: Literal["upcoming", "due", "overdue", "completed", "superseded", "expiring", "expired"]
    policy_edition: EditionId
    policy_clause: str
    policy_digest: str
    milestone_h: int | None = None
    coverage: Literal["machine", "structure"] | None = None
    true_hours_h: float | None = None
    free_of_charge: bool | None = None
    forecast_due_at: datetime | None = None
    checkup_no: int | None = None
    recorded_at: datetime | None = None


class Anomaly(Struct, frozen=True):
    """`data` of `excavator.anomaly.v1` (contract.md). `episode` is one value for all phases of an episode."""

    machine_id: MachineId
    kind: Literal["fault", "hour_meter", "silence", "position", "sensor", "storm"]
    rule: str
    phase: Literal["opened", "worsened", "cleared"]
    episode: str
    severity: Severity
    policy_edition: EditionId
    policy_clause: str
    policy_digest: str
    fault: FaultDetail | None = None
    measured: dict[str, float | int | str | None] = {}
    recorded_at: datetime | None = None


class Evidence(Struct, frozen=True):
    """A reading that decided a fact: when it was recorded, and what of it counted (units in the names)."""

    recorded_at: datetime
    values: dict[str, float | int | str | None] = {}


class Event(Struct, frozen=True):
    """One decided fact. `rule|subject|stage` with the machine id make the id; `time` is when it became true.

    `evidence`: the readings that decided it, in the order of their time; empty where the calendar or a command did.
    `rule_version`: the number of the rule that decided it (docs/adding-a-rule.md); `None` where it is not known.
    """

    machine_id: MachineId
    rule: str
    subject: str
    stage: str
    time: datetime
    data: MaintenanceDue | Anomaly
    evidence: tuple[Evidence, ...] = ()
    rule_version: int | None = None

    @property
    def id(self) -> EventId:
        return event_id(self.machine_id, self.rule, self.subject, self.stage)

    @property
    def type(self) -> str:
        return MAINTENANCE_DUE_TYPE if isinstance(self.data, MaintenanceDue) else ANOMALY_TYPE


def event_id(machine_id: str, rule: str, subject: str, stage: str) -> EventId:
    """UUIDv5 of `machine_id|rule|subject|stage` in `NAMESPACE` (test vectors in contract.md, Alerts)."""
    return EventId(uuid5(NAMESPACE, f"{machine_id}|{rule}|{subject}|{stage}"))


class Alert(Struct, frozen=True):
    """An event as it is read back from an alert topic: what a consumer can know of it."""

    id: EventId
    type: str
    machine_id: MachineId
    time: datetime
    data: MaintenanceDue | Anomaly
