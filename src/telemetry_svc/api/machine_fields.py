"""Machine v1 as it comes in (contract.md): which fields, of which shape. What they do to a machine is elsewhere.

Absent and null differ: `model_fields_set` tells what was given.
"""

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from telemetry_svc.telemetry import FLEET
from telemetry_svc.units import Centihours
from telemetry_svc.web.fields import Day, Hours, Line, Name, Phone, Reference, StrictBody, shaped

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)

TimeOfDay = Annotated[str, *shaped(r"([01][0-9]|2[0-3]):[0-5][0-9]", "must be a time of day like 06:00", "06:00")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _language(value: str) -> str:
    if _LANGUAGE.fullmatch(value) is None:
        raise ValueError("must be a language tag like zh-CN")
    return value


class ContactFields(StrictBody):
    """Somebody to call beside the customer, in the order of the list."""

    phone: Phone = Field(repr=False)
    name: Line | None = Field(default=None, repr=False, examples=["王工"])
    role: Line | None = Field(default=None, examples=["site manager"])
    language: Annotated[str, AfterValidator(_language)] | None = Field(default=None, examples=["zh-CN"])


class GeofenceFields(StrictBody):
    """A circle in which the machine belongs (WGS 84)."""

    latitude_deg: float = Field(ge=-90, le=90, examples=[28.228])
    longitude_deg: float = Field(ge=-180, le=180, examples=[112.939])
    radius_m: float = Field(gt=0, le=20_000_000, examples=[800])


class PermittedHoursFields(StrictBody):
    """A window of permitted work in the machine's own zone; it may cross midnight."""

    days: list[Weekday] = Field(min_length=1, max_length=7, examples=[["mon", "tue", "wed", "thu", "fri", "sat"]])
    from_: TimeOfDay = Field(alias="from")
    to: TimeOfDay = Field(examples=["22:00"])


class MachineFields(StrictBody):
    """A machine to register or to change. Absent keeps what is known, null clears it or brings its default back."""

    machine_id: Name = Field(description="any but `fleet`, which stands for all machines")
    tonnage_t: Annotated[float, Field(ge=0.5, le=1_000)] | None = Field(
        default=None, description="operating weight; required for a new machine, never null", examples=[21.5]
    )
    model: Line | None = Field(default=None, examples=["ZE215E"])
    delivered_on: Day | None = Field(default=None, description="in the machine's own zone")
    time_zone: Line | None = Field(default=None, description="IANA; default Asia/Shanghai", examples=["Asia/Shanghai"])
    policy_edition: Line | None = Field(
        default=None, description="bound for good when the machine is new", examples=["zoomlion-2011-rev1"]
    )
    initial_hours_h: Hours | None = Field(default=None, description="default 0", examples=[0])
    status: Literal["active", "stored", "retired"] | None = Field(default=None, description="default active")
    device_ids: list[Name] | None = Field(default=None, max_length=16, examples=[["868120241234567"]])
    expert_id: Reference | None = None
    team_id: Reference | None = Field(default=None, examples=["TEAM-CS"])
    customer_id: Reference | None = Field(default=None, examples=["CUST-0042"])
    customer_name: Line | None = Field(default=None, repr=False, description="the first contact", examples=["李女士"])
    customer_phone: Phone | None = Field(default=None, repr=False, description="the first contact; E.164")
    contacts: list[ContactFields] | None = Field(
        default=None, max_length=20, repr=False, description="whom to call after the customer, in this order"
    )
    geofence: GeofenceFields | None = None
    permitted_hours: list[PermittedHoursFields] | None = Field(default=None, max_length=50)

    @field_validator("machine_id")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value == FLEET:
            raise ValueError("fleet is reserved: it stands for all machines")
        return value

    @field_validator("tonnage_t")
    @classmethod
    def _never_null(cls, value: float | None) -> float:
        if value is None:
            raise ValueError("must not be null")
        return value


def centihours_of(hours_h: float) -> Centihours:
    """Hours as whole hundredths, further decimals cut: 249.99 → 24 999."""
    return Centihours(int(Decimal(str(hours_h)) * 100))
