"""Machines as they are shown: the registration without anything personal, and what the rules remember of them."""

from datetime import date, datetime
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from telemetry_svc.rules import MachineState
from telemetry_svc.rules.inspections import NEVER_CH
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.units import hours_from


class GeofenceView(BaseModel):
    """A circle in which the machine belongs (WGS 84)."""

    latitude_deg: float = Field(examples=[28.228])
    longitude_deg: float = Field(examples=[112.939])
    radius_m: float = Field(examples=[800])


class PermittedHoursView(BaseModel):
    """A window of permitted work in the machine's own zone."""

    days: list[str] = Field(examples=[["mon", "tue"]])
    from_: str = Field(serialization_alias="from", examples=["06:00"])
    to: str = Field(examples=["22:00"])


class MachineView(BaseModel):
    """A registration. Names and phone numbers are told in the answer of a claim and nowhere else."""

    machine_id: str = Field(examples=["ZE215-000017"])
    tonnage_t: float = Field(examples=[21.5])
    model: str | None = Field(examples=["ZE215E"])
    delivered_on: date | None = Field(examples=["2026-01-31"])
    time_zone: str = Field(examples=["Asia/Shanghai"])
    policy_edition: str = Field(examples=["zoomlion-2011-rev1"])
    initial_hours_h: float = Field(examples=[0])
    status: str = Field(examples=["active"])
    device_ids: list[str] = Field(examples=[["868120241234567"]])
    expert_id: str | None = Field(examples=["EXP-007"])
    team_id: str | None = Field(examples=["TEAM-CS"])
    customer_id: str | None = Field(examples=["CUST-0042"])
    geofence: GeofenceView | None
    permitted_hours: list[PermittedHoursView]
    registered_at: datetime = Field(examples=["2026-11-22T04:20:31Z"])
    changed_at: datetime = Field(examples=["2026-11-22T04:20:31Z"])


class StateView(BaseModel):
    """What the last readings said. `true_hours_h` never falls, whatever the meter shows."""

    true_hours_h: float | None = Field(examples=[249.9])
    latest_recorded_at: datetime | None = Field(examples=["2026-11-22T04:20:31Z"])
    next_check_at: datetime | None = Field(description="when time alone may decide something")


class MilestoneView(BaseModel):
    """One of the inspections by hours."""

    milestone_h: int = Field(examples=[250])
    stage: str = Field(
        description="ahead, upcoming, due, overdue; completed, superseded, settled", examples=["upcoming"]
    )


class WarrantyView(BaseModel):
    """One promise; it ends at `limit_h` or at `ends_at`, whichever comes first."""

    coverage: str = Field(examples=["machine"])
    stage: str = Field(description="covered, expiring, expired", examples=["covered"])
    limit_h: float | None = Field(examples=[3000])
    ends_at: datetime | None = Field(examples=["2027-07-31T16:00:00Z"])


class CheckupsView(BaseModel):
    """The yearly check-ups after warranty. `open_nos`: due and not done."""

    open_nos: list[int] = Field(examples=[[1]])
    next_no: int = Field(examples=[2])
    next_at: datetime | None = Field(examples=["2028-07-31T16:00:00Z"])


class AnomalyView(BaseModel):
    """An episode that is open now."""

    kind: str = Field(examples=["fault"])
    rule: str = Field(examples=["fault"])
    severity: str = Field(examples=["critical"])
    opened_at: datetime = Field(examples=["2026-11-22T04:20:31Z"])
    fault: dict[str, int | str] | None = Field(
        examples=[{"spn": 110, "fmi": 0, "source_address": 0, "lamp": "red_stop", "occurrence_count": 3}]
    )


class MachineDetail(MachineView):
    """A machine and what is remembered of it; `state` is null until its registration has been applied."""

    state: StateView | None
    milestones: list[MilestoneView]
    warranty: list[WarrantyView]
    checkups: CheckupsView | None
    open_anomalies: list[AnomalyView]


class MachinePage(BaseModel):
    """Machines in the order in which they were registered."""

    items: list[MachineView]
    next_cursor: str | None = Field(examples=["AAAAAAAAA_QAAAAAAAAAKg"])


def view_of(row: MachineRow) -> MachineView:
    """The registration as it is shown."""
    return MachineView(**_registration(row))


def detail_of(row: MachineRow, state: MachineState | None) -> MachineDetail:
    """The registration and what is remembered of the machine."""
    return MachineDetail(
        **_registration(row),
        state=None if state is None else _state(state),
        milestones=[] if state is None else _milestones(state),
        warranty=[] if state is None else _warranty(state),
        checkups=None if state is None else _checkups(state),
        open_anomalies=[] if state is None else _open_faults(state),
    )


def _registration(row: MachineRow) -> dict[str, Any]:
    noun: dict[str, Any] = msgspec.to_builtins(row.machine, builtin_types=(datetime, date))
    return noun | {
        "initial_hours_h": hours_from(row.machine.initial_ch),
        "model": row.model,
        "device_ids": list(row.device_ids),
        "expert_id": row.expert_id,
        "team_id": row.team_id,
        "registered_at": row.registered_at,
        "changed_at": row.changed_at,
    }


def _state(state: MachineState) -> StateView:
    true_ch = state.meter.true_ch
    return StateView(
        true_hours_h=None if true_ch is None else hours_from(true_ch),
        latest_recorded_at=state.latest_recorded_at,
        next_check_at=state.next_check_at,
    )


def _milestones(state: MachineState) -> list[MilestoneView]:
    known = state.maintenance.inspections.milestones
    return [MilestoneView(milestone_h=one.milestone_h, stage=one.stage) for one in known]


def _warranty(state: MachineState) -> list[WarrantyView]:
    return [
        WarrantyView(
            coverage=one.coverage,
            stage=one.stage,
            limit_h=None if one.limit_ch == NEVER_CH else hours_from(one.limit_ch),
            ends_at=None if one.ends_at == NEVER else one.ends_at,
        )
        for one in state.maintenance.warranty
    ]


def _checkups(state: MachineState) -> CheckupsView | None:
    yearly = state.maintenance.checkups
    if yearly.base_day is None:
        return None
    next_at = None if yearly.next_at == NEVER else yearly.next_at
    return CheckupsView(open_nos=list(yearly.open_nos), next_no=yearly.next_no, next_at=next_at)


def _open_faults(state: MachineState) -> list[AnomalyView]:
    return [
        AnomalyView(
            kind="fault",
            rule="fault",
            severity=code.severity,
            opened_at=code.opened_at,
            fault={
                "spn": code.spn,
                "fmi": code.fmi,
                "source_address": code.source_address,
                "lamp": code.lamp.value,
                "occurrence_count": code.occurrence_count,
            },
        )
        for code in state.faults.codes
    ]
