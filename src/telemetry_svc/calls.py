"""The nouns of the call queue: a task, its reasons, and each change of a task.

A call task is the queue's answer to "shall a person phone this customer, and about what". One machine has at most one
open task, into which its reasons are folded (contract.md, Calls). Nobody changes a task in place: a transition gives a
new `CallTask` and the `Change` that says who did what and why; the store writes it, the history keeps it and
`excavator.calls` tells it. Nothing here is personal: no name, no phone number.
"""

from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID, uuid5

from msgspec import Struct

from telemetry_svc.events import NAMESPACE
from telemetry_svc.telemetry import EditionId, MachineId

TaskId = NewType("TaskId", UUID)
ExpertId = NewType("ExpertId", str)
AlertId = NewType("AlertId", UUID)
"""Id of a reason: of the alert that is the reason or, without one, an id of the same scheme (contract.md, Calls)."""

CALL_TASK_TYPE = "excavator.call_task.v1"


class CallState(StrEnum):
    PENDING = "pending"
    WAITING_WINDOW = "waiting_window"
    CALLBACK_SCHEDULED = "callback_scheduled"
    CLAIMED = "claimed"
    ESCALATED = "escalated"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({CallState.COMPLETED, CallState.CANCELLED})
WAITING_STATES = frozenset({CallState.WAITING_WINDOW, CallState.CALLBACK_SCHEDULED})


class StateReason(StrEnum):
    """Why a task is `escalated`."""

    NO_CONTACT = "no_contact"
    DO_NOT_CALL = "do_not_call"
    MASS_EVENT = "mass_event"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    WRONG_NUMBER = "wrong_number"


class ReasonEnd(StrEnum):
    """Why a reason is one no longer: its cause went away, a call settled it, or another task carries it on."""

    REPLACED = "replaced"
    COMPLETED = "completed"
    SUPERSEDED = "superseded"
    CLEARED = "cleared"
    RETIRED = "retired"
    SETTLED = "settled"
    CARRIED = "carried"


class Step(StrEnum):
    """What happened to a task, as its history says it."""

    OPENED = "opened"
    JOINED = "joined"
    REPLACED = "replaced"
    ENDED = "ended"
    FLAGGED = "flagged"
    CANCELLED = "cancelled"
    CLAIMED = "claimed"
    RELEASED = "released"
    REJECTED = "rejected"
    LAPSED = "lapsed"
    OUTCOME = "outcome"
    CARRIED_ON = "carried_on"
    OFFERED = "offered"
    CONTEXT = "context"
    RECOVERED = "recovered"


class Reason(Struct, frozen=True):
    """One thing to talk about. `subject` is what its stages have in common, `place` its order in the task (0, 1, …).

    `shown`: it was in the answer of the task's last claim. `listed`: it belongs to the list that the task shows.
    """

    alert_id: AlertId
    type: str
    kind: str
    subject: str
    priority: int
    summary: str
    joined_at: datetime
    stage: str | None = None
    phase: str | None = None
    milestone_h: int | None = None
    severity: str | None = None
    place: int = 0
    shown: bool = False
    listed: bool = True
    ended: ReasonEnd | None = None
    ended_at: datetime | None = None


class MachineContext(Struct, frozen=True):
    """What the queue knows of a machine's registration. `contact_count`: numbers that may be called, in their order."""

    edition: EditionId
    time_zone: str = "Asia/Shanghai"
    expert_id: ExpertId | None = None
    team_id: str | None = None
    customer_id: str | None = None
    contact_count: int = 0
    retired: bool = False


class CallTask(Struct, frozen=True):
    """One call task with the reasons that it lists (contract.md, Calls). Times are aware UTC.

    `rank_at` orders the offers, lowest first; `route_team_at` and `route_anyone_at` are when the machine's team and
    then anyone may claim it. `leased_to` and `lease_token` stay when a lease runs out, until the task is claimed again:
    the call may have been made, and its outcome still counts. `contact_no` counts the wrong numbers passed.
    """

    task_id: TaskId
    machine_id: MachineId
    edition: EditionId
    state: CallState
    priority: int
    created_at: datetime
    changed_at: datetime
    reasons: tuple[Reason, ...] = ()
    state_reason: StateReason | None = None
    customer_id: str | None = None
    expert_id: ExpertId | None = None
    team_id: str | None = None
    contact_count: int = 0
    contact_no: int = 0
    attempts: int = 0
    rejected_by: tuple[ExpertId, ...] = ()
    offered_at: datetime | None = None
    rank_at: datetime | None = None
    route_team_at: datetime | None = None
    route_anyone_at: datetime | None = None
    not_before: datetime | None = None
    due_at: datetime | None = None
    callback_at: datetime | None = None
    last_outcome: str | None = None
    last_outcome_at: datetime | None = None
    leased_to: ExpertId | None = None
    lease_token: UUID | None = None
    lease_expires_at: datetime | None = None

    @property
    def open_reasons(self) -> tuple[Reason, ...]:
        return tuple(reason for reason in self.reasons if reason.ended is None)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def flagged(self) -> bool:
        """In a call whose cause went away meanwhile: the expert is told, and the task ends with the lease."""
        return self.state is CallState.CLAIMED and not self.open_reasons

    @property
    def assigned_to(self) -> ExpertId | None:
        """Who holds or held the call; until somebody does, the machine's own expert."""
        return self.leased_to if self.state in {CallState.CLAIMED, CallState.COMPLETED} else self.expert_id


class Change(Struct, frozen=True):
    """One transition: the task as it stands after it, and the reasons that it made or ended.

    `why` is the alert, outcome or setting behind it in a few words without personal data; `by` is who, if a person.
    """

    task: CallTask
    step: Step
    at: datetime
    why: str
    by: ExpertId | None = None
    touched: tuple[Reason, ...] = ()


def task_id_of(opening: AlertId) -> TaskId:
    """Id of the task that a reason opens (contract.md: e59ca73e-… → a4b7fbe1-…)."""
    return TaskId(uuid5(NAMESPACE, str(opening)))


def rest_id_of(task_id: TaskId) -> TaskId:
    """Id of the task that goes on with what a completed one left over."""
    return TaskId(uuid5(NAMESPACE, f"{task_id}|rest"))
