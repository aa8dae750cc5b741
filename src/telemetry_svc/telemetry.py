"""The nouns of what comes in: machines, pings and the commands that change a machine's state.

Frozen and typed, with the unit in the name. They are `msgspec.Struct`s because one is made per ping in the hot path
(ADR 0002). Nothing here knows Kafka, HTTP, PostgreSQL or the policy.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID

from msgspec import Struct

from telemetry_svc.units import Centihours

MachineId = NewType("MachineId", str)
EditionId = NewType("EditionId", str)

FLEET = MachineId("fleet")
"""No machine may be called so: it is the subject and key of events that are about many machines."""


class Lamp(StrEnum):
    """Lamp of a J1939 DM1 message."""

    NONE = "none"
    PROTECT = "protect"
    AMBER_WARNING = "amber_warning"
    RED_STOP = "red_stop"
    MALFUNCTION = "malfunction"


class Fault(Struct, frozen=True, gc=False):
    """One diagnostic trouble code of a ping. Source: SAE J1939-73 DM1. `spn` 0 with `fmi` 0 means "no active fault"."""

    spn: int
    fmi: int
    occurrence_count: int = 1
    source_address: int = 0
    lamp: Lamp = Lamp.NONE


class Position(Struct, frozen=True, gc=False):
    """A GPS fix (WGS 84)."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None = None
    speed_kmh: float | None = None
    heading_deg: float | None = None


class Sensors(Struct, frozen=True, gc=False):
    """Sensor values of one ping; `None` = not reported."""

    coolant_temperature_c: float | None = None
    oil_pressure_kpa: float | None = None
    fuel_level_pct: float | None = None
    battery_v: float | None = None


class Ping(Struct, frozen=True):
    """Ping v1 after decoding (contract.md). `recorded_at` is UTC, cut to milliseconds; `None` = not reported.

    `faults == ()` means "no active fault of any source address"; `faults is None` means "not reported".
    """

    machine_id: MachineId
    recorded_at: datetime
    hour_meter_ch: Centihours | None = None
    position: Position | None = None
    faults: tuple[Fault, ...] | None = None
    sensors: Sensors | None = None
    engine_running: bool | None = None
    device_id: str | None = None
    sequence: int | None = None


class MachineStatus(StrEnum):
    ACTIVE = "active"
    STORED = "stored"
    RETIRED = "retired"


class Geofence(Struct, frozen=True, gc=False):
    latitude_deg: float
    longitude_deg: float
    radius_m: float


class PermittedHours(Struct, frozen=True):
    """One window of permitted work in the machine's own zone; `from_`/`to` are HH:MM and may cross midnight."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...]
    from_: str
    to: str


class Machine(Struct, frozen=True):
    """What the rules may know of a machine's registration (Machine v1 without anything personal).

    `tonnage_t` is the operating weight in metric tons; `initial_ch` the hours at registration; `delivered_on` a date
    in `time_zone` (IANA name).
    """

    machine_id: MachineId
    tonnage_t: float
    policy_edition: EditionId
    time_zone: str = "Asia/Shanghai"
    delivered_on: date | None = None
    initial_ch: Centihours = Centihours(0)
    status: MachineStatus = MachineStatus.ACTIVE
    customer_id: str | None = None
    geofence: Geofence | None = None
    permitted_hours: tuple[PermittedHours, ...] = ()


# --- the inputs of the rules: everything that can change a machine's state (design.md, decision 4) ---


class Reading(Struct, frozen=True):
    """A ping that is no repeat, with the broker's append time. `future`: dated > 5 min after `received_at`."""

    ping: Ping
    received_at: datetime
    future: bool = False


class Registration(Struct, frozen=True, tag="registration"):
    """A machine was registered or its registration changed. `quiet` settles what the first reading shows."""

    command_id: UUID
    machine: Machine
    effective_at: datetime
    received_at: datetime
    quiet: bool = False


class InspectionDone(Struct, frozen=True, tag="inspection_done"):
    """An inspection (`milestone_h`) or a yearly check-up (`checkup_no`) was done; exactly one of the two is set."""

    command_id: UUID
    machine_id: MachineId
    performed_at: datetime
    received_at: datetime
    milestone_h: int | None = None
    checkup_no: int | None = None
    hour_meter_ch: Centihours | None = None


class MeterDecision(Struct, frozen=True, tag="meter_decision"):
    """An operator's word on held hour-meter readings (policy.md, anomaly "hour meter")."""

    command_id: UUID
    machine_id: MachineId
    decision: Literal["accept", "reject", "replaced"]
    received_at: datetime
    note: str | None = None


class Tick(Struct, frozen=True):
    """Time has passed: `at` is the broker's clock up to which every ping of the machine's partition was read."""

    at: datetime


Command = Registration | InspectionDone | MeterDecision
Input = Reading | Registration | InspectionDone | MeterDecision | Tick
