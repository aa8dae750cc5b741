"""Shapes of the call routes (contract.md, Calls), each with an example for the OpenAPI document.

What comes in is strict; what goes out mirrors `notify.announce.task_data`, and only the answer of a claim has a
customer in it.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from telemetry_svc.calls import AlertId, CallState, CallTask, StateReason
from telemetry_svc.notify.announce import task_data
from telemetry_svc.store.call_claims import Lease
from telemetry_svc.store.call_outcomes import Appointment, Told, Words
from telemetry_svc.web.fields import Instant, Line, Note, Reference, StrictBody

MAX_CLAIMED = 50
MAX_LEASE_S = 3_600

_TASK_ID = "a4b7fbe1-37ea-5ccf-9f04-25fac2a3c6f3"
_ALERT_ID = "e59ca73e-d80d-5236-a163-2bc15288643e"
_TOKEN = "0d9f5a52-6a0e-4a0e-9a55-5b6f6a2f5c11"  # noqa: S105 - an example
_AT = "2026-11-22T04:20:31Z"

LeaseSeconds = Annotated[float, Field(ge=1, le=MAX_LEASE_S, examples=[120])]


class ClaimOneBody(StrictBody):
    """Who claims. A key bound to an expert need not say it."""

    expert_id: Reference | None = None
    lease_s: LeaseSeconds | None = Field(default=None, description="absent: the policy's, 120 s", examples=[120])


class ClaimBody(ClaimOneBody):
    """How many tasks at most."""

    max: int = Field(default=1, ge=1, le=MAX_CLAIMED, examples=[5])


class TokenBody(StrictBody):
    """The token that the claim's answer brought."""

    lease_token: Reference = Field(examples=[_TOKEN])


class RenewBody(TokenBody):
    """For how long from now."""

    lease_s: LeaseSeconds | None = Field(default=None, description="absent: the policy's, 120 s", examples=[120])


class AppointmentBody(StrictBody):
    """What was agreed with the customer."""

    at: Instant
    place: Line | None = Field(default=None, examples=["长沙市岳麓区 3 号工地"])
    contact: Line | None = Field(default=None, repr=False, examples=["王工"])


class OutcomeBody(TokenBody):
    """What became of the call. Only an outcome that completes settles reasons."""

    outcome: Line = Field(examples=["answered_booked"], description="by the policy: answered_booked, no_answer …")
    note: Note | None = Field(default=None, repr=False)
    reasons_done: list[Annotated[UUID, Field(strict=False)]] | None = Field(
        default=None, max_length=1_000, description="absent: those of the claim's answer", examples=[[_ALERT_ID]]
    )
    appointment: AppointmentBody | None = None
    callback_at: Instant | None = None
    solved_by_phone: bool | None = None
    satisfaction: int | None = Field(default=None, ge=1, le=5, examples=[5])
    usage: Note | None = Field(default=None, repr=False)
    feedback: Note | None = Field(default=None, repr=False)
    complaint: Note | None = Field(default=None, repr=False)


class ReasonView(BaseModel):
    """One thing to talk about: `stage` of maintenance, `phase` and `severity` of an anomaly."""

    alert_id: UUID = Field(examples=[_ALERT_ID])
    type: str = Field(examples=["excavator.maintenance_due.v1"])
    kind: str = Field(examples=["inspection"])
    stage: str | None = Field(examples=["due"])
    phase: str | None = Field(examples=[None])
    milestone_h: int | None = Field(examples=[250])
    severity: str | None = Field(examples=[None])
    summary: str = Field(examples=["Inspection at 250 h is due"])


class CallView(BaseModel):
    """A call task. It holds nothing personal."""

    task_id: UUID = Field(examples=[_TASK_ID])
    machine_id: str = Field(examples=["ZE215-000017"])
    customer_id: str | None = Field(examples=["CUST-0042"])
    state: CallState = Field(examples=["pending"])
    state_reason: StateReason | None = Field(description="why it is escalated", examples=[None])
    priority: int = Field(description="1 = most urgent … 9", examples=[6])
    reasons: list[ReasonView]
    assigned_to: str | None = Field(description="who holds or held it; before, the machine's expert")
    attempts: int = Field(examples=[0])
    not_before: datetime | None = Field(examples=[None])
    offered_at: datetime | None = Field(description="since when the clock allows a claim", examples=[_AT])
    due_at: datetime | None = Field(description="the nearest limit of its cases", examples=[None])
    flagged: bool = Field(description="in a call whose cause went away meanwhile", examples=[False])
    created_at: datetime = Field(examples=[_AT])
    changed_at: datetime = Field(examples=[_AT])

    @classmethod
    def of(cls, task: CallTask) -> "CallView":
        return cls.model_validate(task_data(task))


class CallPageView(BaseModel):
    """A page; `next_cursor` null: that was the last one."""

    items: list[CallView]
    next_cursor: str | None = Field(examples=[None])


class LeasedCallView(CallView):
    """A task with its lease."""

    lease_token: UUID = Field(examples=[_TOKEN])
    lease_s_left: float = Field(examples=[120.0])
    lease_expires_at: datetime = Field(examples=["2026-11-22T04:22:31Z"])


class CustomerView(BaseModel):
    """Whom to call. Every reading of it is audited."""

    name: str | None = Field(repr=False, examples=["王工"])
    phone: str | None = Field(repr=False, examples=["+8613800000000"])


class ClaimedCallView(LeasedCallView):
    """A claimed task; `customer` null where nobody can be called, or where the lease is over."""

    customer: CustomerView | None = None


_CLAIMED: dict[str, Any] = {
    "task_id": _TASK_ID,
    "machine_id": "ZE215-000017",
    "customer_id": "CUST-0042",
    "state": "claimed",
    "state_reason": None,
    "priority": 6,
    "reasons": [
        {
            "alert_id": _ALERT_ID,
            "type": "excavator.maintenance_due.v1",
            "kind": "inspection",
            "stage": "due",
            "phase": None,
            "milestone_h": 250,
            "severity": None,
            "summary": "Inspection at 250 h is due",
        }
    ],
    "assigned_to": "EXP-007",
    "attempts": 0,
    "not_before": None,
    "offered_at": _AT,
    "due_at": None,
    "flagged": False,
    "created_at": _AT,
    "changed_at": _AT,
    "lease_token": _TOKEN,
    "lease_s_left": 120.0,
    "lease_expires_at": "2026-11-22T04:22:31Z",
    "customer": {"name": "王工", "phone": "+8613800000000"},
}


class ClaimView(BaseModel):
    """What was claimed, in the order in which to call; empty where there was nothing."""

    tasks: list[ClaimedCallView] = Field(examples=[[_CLAIMED]])


def leased_data(lease: Lease) -> dict[str, Any]:
    """The fields of a `LeasedCallView`."""
    return task_data(lease.task) | {
        "lease_token": lease.token,
        "lease_s_left": round(lease.left_s, 3),
        "lease_expires_at": lease.expires_at,
    }


def told_of(body: OutcomeBody) -> Told:
    """The report in an outcome's body."""
    agreed = body.appointment
    appointment = None if agreed is None else Appointment(agreed.at.isoformat(), agreed.place, agreed.contact)
    done = None if body.reasons_done is None else frozenset(AlertId(one) for one in body.reasons_done)
    return Told(
        outcome=body.outcome,
        words=Words(body.note, appointment, body.usage, body.feedback, body.complaint),
        reasons_done=done,
        solved_by_phone=body.solved_by_phone,
        satisfaction=body.satisfaction,
    )
