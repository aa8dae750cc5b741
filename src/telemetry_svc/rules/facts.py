"""How a rule says what it found: maintenance facts and anomalies, each with the clause and file that decided it.

A rule knows its own numbers and nothing else; who the machine is and which policy file speaks (contract.md, Alerts:
`policy_edition`, `policy_digest`) comes in one `Basis` made by the engine only when a fact is at hand. Maintenance
facts also carry the hours they stand at, since contract.md orders the facts of one reading by them.
"""

from datetime import datetime
from enum import IntEnum
from typing import Literal

from msgspec import Struct

from telemetry_svc.events import Anomaly, Event, Evidence, FaultDetail, MaintenanceDue, Severity
from telemetry_svc.telemetry import EditionId, MachineId
from telemetry_svc.units import hours_from, rfc3339_ms

MaintenanceStage = Literal["upcoming", "due", "overdue", "completed", "superseded", "expiring", "expired"]
Phase = Literal["opened", "worsened", "cleared"]
AnomalyKind = Literal["fault", "hour_meter", "silence", "position", "sensor", "storm"]


class Rank(IntEnum):
    """At equal hours inspections come first, then warranty, then the check-up (contract.md, Alerts)."""

    INSPECTION = 0
    WARRANTY = 1
    CHECKUP = 2


class Basis(Struct, frozen=True):
    """What stands in every event of one step: machine, policy file, and the reading last known (or deciding)."""

    machine_id: MachineId
    edition: EditionId
    digest: str
    recorded_at: datetime | None = None
    true_ch: int | None = None
    evidence: tuple[Evidence, ...] = ()


class Fact(Struct, frozen=True):
    """A maintenance event with the place it takes among the facts of one reading."""

    stands_at_ch: int
    rank: Rank
    event: Event


def in_order(facts: list[Fact]) -> tuple[Event, ...]:
    """Facts of one reading, by the hours they stand at; Python's sort keeps the order of equals."""
    return tuple(fact.event for fact in sorted(facts, key=lambda fact: (fact.stands_at_ch, fact.rank)))


class Promise(Struct, frozen=True):
    """One stage of an inspection, a coverage or a check-up, before the machine and the file are written beside it.

    `version`: that of the rule, as its module declares it (docs/adding-a-rule.md).
    """

    kind: Literal["inspection", "warranty", "checkup"]
    subject: str
    stage: MaintenanceStage
    clause: str
    time: datetime
    version: int
    milestone_h: int | None = None
    coverage: Literal["machine", "structure"] | None = None
    free_of_charge: bool | None = None
    forecast_due_at: datetime | None = None
    checkup_no: int | None = None


def maintenance_due(basis: Basis, promise: Promise) -> Event:
    data = MaintenanceDue(
        machine_id=basis.machine_id,
        kind=promise.kind,
        stage=promise.stage,
        policy_edition=basis.edition,
        policy_clause=promise.clause,
        policy_digest=basis.digest,
        milestone_h=promise.milestone_h,
        coverage=promise.coverage,
        true_hours_h=None if basis.true_ch is None else hours_from(basis.true_ch),
        free_of_charge=promise.free_of_charge,
        forecast_due_at=promise.forecast_due_at,
        checkup_no=promise.checkup_no,
        recorded_at=basis.recorded_at,
    )
    return Event(
        machine_id=basis.machine_id,
        rule=promise.kind,
        subject=promise.subject,
        stage=promise.stage,
        time=promise.time,
        data=data,
        evidence=basis.evidence,
        rule_version=promise.version,
    )


ANOMALY_CLAUSE = "R1"
"""Every anomaly is called about under R1, "proactive phone reminder on abnormal information" (contract.md, Alerts)."""


class Finding(Struct, frozen=True):
    """One edge of an anomaly's episode, before it is known whether it is told (storm) and under which file.

    `opened_at` is the `recorded_at` of the first reading of the run that opened the episode; `code` what stands before
    the `@` of its subject (110/0/0, geofence, battery_v), `None` where nothing does (silence, hour_meter, storm);
    `version` the number that the rule's module declares (docs/adding-a-rule.md).
    """

    kind: AnomalyKind
    phase: Phase
    opened_at: datetime
    severity: Severity
    time: datetime
    version: int
    rule: str | None = None
    code: str | None = None
    fault: FaultDetail | None = None
    measured: dict[str, float | int | str | None] = {}

    @property
    def subject(self) -> str:
        moment = rfc3339_ms(self.opened_at)
        return moment if self.code is None else f"{self.code}@{moment}"

    @property
    def episode(self) -> str:
        """One value for all phases of an episode."""
        return f"{self.kind}|{self.subject}"


def anomaly(basis: Basis, found: Finding) -> Event:
    data = Anomaly(
        machine_id=basis.machine_id,
        kind=found.kind,
        rule=found.rule or found.kind,
        phase=found.phase,
        episode=found.episode,
        severity=found.severity,
        policy_edition=basis.edition,
        policy_clause=ANOMALY_CLAUSE,
        policy_digest=basis.digest,
        fault=found.fault,
        measured=found.measured,
        recorded_at=basis.recorded_at,
    )
    stage = f"worsened-{found.severity}" if found.phase == "worsened" else found.phase
    return Event(
        machine_id=basis.machine_id,
        rule=found.kind,
        subject=found.subject,
        stage=stage,
        time=found.time,
        data=data,
        evidence=_evidence(basis, found),
        rule_version=found.version,
    )


def _evidence(basis: Basis, found: Finding) -> tuple[Evidence, ...]:
    """The first reading of the run that opened the episode, and what was measured when it was decided."""
    decided = Evidence(basis.recorded_at or found.time, found.measured)
    return (decided,) if found.opened_at == decided.recorded_at else (Evidence(found.opened_at), decided)
