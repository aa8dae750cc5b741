"""What an alert means to the call queue: a reason for a call, the end of one, or nothing to phone about.

An alert is called about when the policy gives its name a priority (`inspection_due`, `fault_major`, `outside_hours`
…); everything else is for the operations engineers, who read the topic.

The stages of one subject are ranked. The queue remembers how far each subject came, so a repeated alert, and an earlier
stage that arrives after a later one, is old news by its rank alone.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from telemetry_svc.calls import AlertId, Reason, ReasonEnd
from telemetry_svc.events import Alert, Anomaly, FaultDetail, MaintenanceDue, Severity

ENDED_RANK = 9
"""Rank of a subject that is over: nothing of it is news any more."""

_STAGE_RANKS = {
    ("inspection", "upcoming"): 1,
    ("inspection", "due"): 2,
    ("inspection", "overdue"): 3,
    ("warranty", "expiring"): 1,
    ("warranty", "expired"): 2,
    ("checkup", "due"): 1,
}
_STAGE_ENDS = {
    ("inspection", "completed"): ReasonEnd.COMPLETED,
    ("inspection", "superseded"): ReasonEnd.SUPERSEDED,
    ("checkup", "completed"): ReasonEnd.COMPLETED,
    ("checkup", "superseded"): ReasonEnd.SUPERSEDED,
}
_OPENED_RANK = 1
_WORSENED_RANKS = {Severity.WARNING: 2, Severity.GENERAL: 3, Severity.MAJOR: 4, Severity.CRITICAL: 5}

_COVERAGES = {"machine": "Whole-machine", "structure": "Structural"}
_RULE_NAMES = {
    "coolant_temperature_c": "Coolant temperature",
    "oil_pressure_kpa": "Oil pressure",
    "outside_hours": "Movement outside permitted hours",
}


class Matter(Struct, frozen=True):
    """One alert as the queue sees it: a `reason` to call, the `end` of its subject's reason, or neither."""

    subject: str
    rank: int
    reason: Reason | None = None
    end: ReasonEnd | None = None

    @property
    def calls(self) -> bool:
        """Whether the queue has anything to do with it; else it is for ops alone."""
        return self.reason is not None or self.end is not None


class NotUnderstood(Struct, frozen=True):
    """Why an alert makes no sense to the queue; `message` names the field and holds no value of it."""

    message: str


def matter_of(alert: Alert, priorities: Mapping[str, int], now: datetime) -> Matter | NotUnderstood:
    """Reads an alert by the priorities of its machine's policy (name → 1 … 9); a reason joins at `now`."""
    if alert.data.machine_id != alert.machine_id:
        return NotUnderstood("data.machine_id is not the subject")
    match alert.data:
        case MaintenanceDue():
            return _maintenance(alert, alert.data, priorities, now)
        case Anomaly():
            return _anomaly(alert, alert.data, priorities, now)


def _maintenance(
    alert: Alert, data: MaintenanceDue, priorities: Mapping[str, int], now: datetime
) -> Matter | NotUnderstood:
    name = {"inspection": data.milestone_h, "warranty": data.coverage, "checkup": data.checkup_no}[data.kind]
    if name is None:
        return NotUnderstood(f"a {data.kind} without its milestone_h, coverage or checkup_no")
    subject = f"{data.kind}|{name}"
    key = (data.kind, data.stage)
    if key in _STAGE_ENDS:
        return Matter(subject, ENDED_RANK, end=_STAGE_ENDS[key])
    if key not in _STAGE_RANKS:
        return NotUnderstood(f"stage is none of a {data.kind}")
    priority = priorities.get(f"{data.kind}_{data.stage}")
    if priority is None:
        return Matter(subject, _STAGE_RANKS[key])
    reason = Reason(
        alert_id=AlertId(alert.id),
        type=alert.type,
        kind=data.kind,
        subject=subject,
        priority=priority,
        summary=_maintenance_summary(data.kind, data.stage, name),
        joined_at=now,
        stage=data.stage,
        milestone_h=data.milestone_h,
    )
    return Matter(subject, _STAGE_RANKS[key], reason)


def _anomaly(alert: Alert, data: Anomaly, priorities: Mapping[str, int], now: datetime) -> Matter:
    subject = f"{data.rule}|{data.episode}"
    priority = priorities.get(data.rule, priorities.get(f"{data.kind}_{data.severity}"))
    if data.phase == "cleared":
        return Matter(subject, ENDED_RANK, end=None if priority is None else ReasonEnd.CLEARED)
    rank = _OPENED_RANK if data.phase == "opened" else _WORSENED_RANKS[data.severity]
    if priority is None:
        return Matter(subject, rank)
    reason = Reason(
        alert_id=AlertId(alert.id),
        type=alert.type,
        kind=data.kind,
        subject=subject,
        priority=priority,
        summary=_anomaly_summary(data),
        joined_at=now,
        phase=data.phase,
        severity=data.severity.value,
    )
    return Matter(subject, rank, reason)


def _maintenance_summary(kind: str, stage: str, name: int | str) -> str:
    match kind:
        case "inspection":
            return f"Inspection at {name} h is {stage}"
        case "checkup":
            return f"Yearly check-up {name} is {stage}"
        case _:
            return f"{_COVERAGES[str(name)]} warranty {'has expired' if stage == 'expired' else 'is expiring'}"


def _anomaly_summary(data: Anomaly) -> str:
    name = _RULE_NAMES.get(data.rule, data.rule) if data.fault is None else _fault_name(data.fault)
    return f"{name}: {data.severity}"


def _fault_name(fault: FaultDetail) -> str:
    described = f" {fault.description}" if fault.description else ""
    return f"Fault SPN {fault.spn} FMI {fault.fmi}{described}"
