"""A whole policy file as pydantic sees it: title, clauses, anomalies, call queue, cases.

Shapes and ranges of single values are judged here; what must hold between values (brackets without a gap, ladders that
rise) is judged in `laws.py`.
"""

from datetime import date
from math import inf
from typing import Annotated, Literal

from pydantic import Field

from telemetry_svc.events import Severity
from telemetry_svc.policies.clauses import Clauses, ClauseText
from telemetry_svc.policies.values import Block, Duration, Hours, Number, Positive, Seconds, Share, WholeSeconds

Spn = Annotated[int, Field(ge=0, le=524_287)]
Fmi = Annotated[int, Field(ge=0, le=31)]
SeverityName = Annotated[Severity, Field(strict=False)]
Priority = Annotated[int, Field(ge=1, le=9)]
HourMinute = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class Title(Block):
    en: str
    zh_cn: str = Field(alias="zh-CN")


class InForce(Block):
    from_: date = Field(alias="from")
    until: date | None


class SeverityOverride(Block):
    spn: Spn
    fmi: Fmi | None = None
    severity: SeverityName


class FaultCode(ClauseText):
    enabled: bool = True
    clears_after: Duration
    lapses_after: Duration
    max_open_codes: Positive
    overrides: list[SeverityOverride]
    warning_fmis: list[Fmi]
    severe_fmis: list[Fmi]
    critical_spns: list[Spn]
    call: list[SeverityName]


class MassEvent(ClauseText):
    machines: Positive
    within_s: Seconds = Field(alias="within")
    remind_s: Seconds = Field(alias="remind")


class HourMeter(ClauseText):
    enabled: bool = True
    rollback_ch: Hours = Field(alias="rollback_h")
    max_rate_pct: Hours = Field(alias="max_rate")  # hours per hour in hundredths are per cent
    slack_ch: Hours = Field(alias="slack_h")
    first_slack_ch: Hours = Field(alias="first_slack_h")
    segment_readings: Positive
    segment_after: Duration
    severity: SeverityName


class Silence(ClauseText):
    enabled: bool = True
    after: Duration
    min_pings: Positive
    min_span: Duration
    severity: SeverityName


class Speed(ClauseText):
    enabled: bool = True
    over_kmh: Number = Field(gt=0)
    clears_at_kmh: Number = Field(gt=0)
    severity: SeverityName
    call: bool = False


class Geofence(ClauseText):
    enabled: bool = True
    clears_at_ratio: Number = Field(gt=0, le=1)
    severity: SeverityName
    call: bool = False


class MovementRule(Block):
    enabled: bool = True
    severity: SeverityName
    call: bool = False


class Movement(ClauseText):
    over_m: Number = Field(gt=0)
    stands_for: Duration
    stands_within_m: Number = Field(gt=0)
    engine_off_movement: MovementRule
    outside_hours: MovementRule


class Sensor(Block):
    """Exactly one of `over` and `under`; `clears_at` on its safe side."""

    field: Literal["coolant_temperature_c", "oil_pressure_kpa", "fuel_level_pct", "battery_v"]
    over: Number = inf
    under: Number = -inf
    clears_at: Number
    lasting: Duration
    engine_running_only: bool = False
    severity: SeverityName
    call: bool = False


class Sensors(ClauseText):
    enabled: bool = True
    sensors: list[Sensor]


class Storm(ClauseText):
    enabled: bool = True
    openings: Positive
    within: Duration
    severity: SeverityName


class Anomalies(Block):
    """Every anomaly has its own block; a missing one is a fault of the file."""

    fault_code: FaultCode
    hour_meter: HourMeter
    silence: Silence
    speed: Speed
    geofence: Geofence
    movement: Movement
    sensors: Sensors
    storm: Storm
    mass_event: MassEvent


class Window(Block):
    from_: HourMinute = Field(alias="from")
    to: HourMinute


class Outcome(Block):
    name: str
    completes: bool
    retry_after_s: Seconds | None = Field(None, alias="retry_after")
    urgent_retry_after_s: Seconds | None = Field(None, alias="urgent_retry_after")
    counts_attempt: bool = True
    next_contact: bool = False


class CallQueue(Block):
    rank_offset_h: list[Number] = Field(min_length=9, max_length=9)
    diamond_bonus_h: Number = Field(ge=0)
    gold_bonus_h: Number = Field(ge=0)
    priorities: dict[str, Priority]
    urgent_priorities: list[Priority]
    workday_windows: list[Window] = Field(min_length=1)
    holiday_windows: list[Window] = Field(min_length=1)
    windowed_priorities: list[Priority]
    unwindowed_reasons: list[str]
    attempts_per_day: Positive
    attempts_per_task: Positive
    outcomes: list[Outcome] = Field(min_length=1)
    route_team_after_s: Seconds = Field(alias="route_team_after")
    route_anyone_after_s: Seconds = Field(alias="route_anyone_after")
    urgent_route_team_after_s: Seconds = Field(alias="urgent_route_team_after")
    urgent_route_anyone_after_s: Seconds = Field(alias="urgent_route_anyone_after")
    lease_default_s: WholeSeconds = Field(alias="lease_default")
    lease_max_s: WholeSeconds = Field(alias="lease_max")
    leases_per_expert: Positive
    later_stage_after_appointment_s: Seconds = Field(alias="later_stage_after_appointment")
    dissatisfied_up_to: int = Field(ge=0, le=5)
    complaint_repeat_days: Positive
    claim_answer_s: Seconds = Field(alias="claim_answer")
    claim_answer_share: Share


class Cases(Block):
    repeat_within_days: Positive
    records_kept_days: Positive
    telemetry_kept_days: Positive
    idle_account_days: Positive


class Document(Block):
    edition: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    title: Title
    in_force: InForce
    clauses: Clauses
    anomalies: Anomalies
    call_queue: CallQueue
    cases: Cases
