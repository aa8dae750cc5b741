"""Alerts of one machine, and a queue in memory that takes them one by one as the notifier does."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from telemetry_svc.calls import AlertId, CallTask, Change, ExpertId, MachineContext
from telemetry_svc.events import Alert, Anomaly, Event, FaultDetail, MaintenanceDue, Severity
from telemetry_svc.notify.decide import decide
from telemetry_svc.notify.matters import Matter, matter_of
from telemetry_svc.policies import load_policies
from telemetry_svc.telemetry import EditionId, MachineId

MACHINE = MachineId("ZE215-000017")
EDITION = EditionId("zoomlion-2011-rev1")
QUEUE = load_policies()[EDITION].call_queue
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONTEXT = MachineContext(EDITION, expert_id=ExpertId("EXP-1"), team_id="TEAM-1", customer_id="CUST-1", contact_count=1)
NO_CONTACT = MachineContext(EDITION)

_BASIS: dict[str, Any] = {"policy_edition": EDITION, "policy_clause": "I1", "policy_digest": "0" * 64}

InspectionStage = Literal["upcoming", "due", "overdue", "completed", "superseded"]


def _alert(event: Event) -> Alert:
    return Alert(event.id, event.type, event.machine_id, event.time, event.data)


def inspection(milestone_h: int, stage: InspectionStage, machine: MachineId = MACHINE) -> Alert:
    data = MaintenanceDue(machine, "inspection", stage, milestone_h=milestone_h, **_BASIS)
    return _alert(Event(machine, "inspection", str(milestone_h), stage, NOON, data))


def warranty(
    coverage: Literal["machine", "structure"], stage: Literal["expiring", "expired"], machine: MachineId = MACHINE
) -> Alert:
    data = MaintenanceDue(machine, "warranty", stage, coverage=coverage, **_BASIS)
    return _alert(Event(machine, "warranty", coverage, stage, NOON, data))


def checkup(number: int, stage: Literal["due", "completed", "superseded"], machine: MachineId = MACHINE) -> Alert:
    data = MaintenanceDue(machine, "checkup", stage, checkup_no=number, **_BASIS)
    return _alert(Event(machine, "checkup", str(number), stage, NOON, data))


def anomaly(
    kind: Any,
    rule: str,
    phase: Literal["opened", "worsened", "cleared"],
    severity: Severity,
    *,
    code: str = "",
    detail: FaultDetail | None = None,
    machine: MachineId = MACHINE,
) -> Alert:
    episode = f"{code or rule}@2026-11-22T04:20:31.000Z"
    stage = f"worsened-{severity}" if phase == "worsened" else phase
    data = Anomaly(machine, kind, rule, phase, episode, severity, fault=detail, **_BASIS)
    return _alert(Event(machine, kind, episode, stage, NOON, data))


def fault(
    severity: Severity,
    phase: Literal["opened", "worsened", "cleared"] = "opened",
    *,
    spn: int = 110,
    machine: MachineId = MACHINE,
) -> Alert:
    detail = FaultDetail(spn, 0, 0, "red_stop", "engine coolant temperature")
    return anomaly("fault", "fault", phase, severity, code=f"{spn}/0/0", detail=detail, machine=machine)


def reason_id(alert: Alert) -> AlertId:
    return AlertId(alert.id)


@dataclass
class MemoryQueue:
    """One machine's queue without a database: the open task, the subjects' ranks, and every change so far."""

    context: MachineContext = CONTEXT
    now: datetime = NOON
    task: CallTask | None = None
    reached: dict[str, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def take(self, *alerts: Alert) -> tuple[Change, ...]:
        """Decides the alerts in order, a second apart, and returns what changed."""
        before = len(self.changes)
        for alert in alerts:
            self._take_one(alert)
        return tuple(self.changes[before:])

    def _take_one(self, alert: Alert) -> None:
        matter = matter_of(alert, QUEUE.priorities, self.now)
        assert isinstance(matter, Matter)
        reached = self.reached.get(matter.subject, 0)
        self.apply(decide(alert.machine_id, self.task, matter, reached, self.context, QUEUE, self.now))
        if matter.calls:
            self.reached[matter.subject] = max(reached, matter.rank)
        self.now += timedelta(seconds=1)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.changes.append(change)
            self.task = None if change.task.is_final else change.task

    @property
    def open_task(self) -> CallTask:
        assert self.task is not None
        return self.task
