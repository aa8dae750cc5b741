"""The clauses of an edition as they stand in its file (policy.md, the table "Clauses").

Each is one sentence in two languages and its values. Field names equal those of the rules' blocks, so that freezing an
edition copies values and translates nothing; where the file's key has another unit, the alias says so.
"""

from typing import Literal

from pydantic import Field

from telemetry_svc.policies.values import (
    Block,
    Duration,
    Hours,
    Positive,
    Seconds,
    Sentence,
    SentenceZh,
    Share,
    Tonnes,
)


class ClauseText(Block):
    """Every clause tells its promise."""

    en: Sentence
    zh_cn: SentenceZh = Field(alias="zh-CN")


class TonnageBracket(Block):
    """From `from_t` (inclusive) up to `below_t` (exclusive)."""

    from_t: Tonnes
    below_t: Tonnes | None


class CoverBracket(TonnageBracket):
    limit_ch: Hours | None = Field(alias="limit_h")
    months: Positive | None = None


class Cover(ClauseText):
    brackets: list[CoverBracket] = Field(min_length=1)
    expiring_before_ch: Hours = Field(alias="expiring_before_h")
    expiring_before_days: int = Field(0, ge=0, le=365)


class PartsRebate(ClauseText):
    parts_rebate: bool
    parts_rebate_period: str = Field(alias="period")


class Forecast(Block):
    within: Duration
    window_days: int = Field(ge=2, le=90)
    min_days: int = Field(ge=2, le=90)
    resting_days: int = Field(ge=1, le=90)
    resting_below_ch: Hours = Field(alias="resting_below_h")


class Inspections(ClauseText):
    milestones_h: list[Positive] = Field(min_length=1)
    lead_first_ch: Hours = Field(alias="lead_first_h")
    lead_ch: Hours = Field(alias="lead_h")
    overdue_after_ch: Hours = Field(alias="overdue_after_h")
    forecast: Forecast


class FreeBracket(TonnageBracket):
    free: bool


class FreeInspections(ClauseText):
    free: list[FreeBracket] = Field(min_length=1)


class CallBack(ClauseText):
    call_back_s: Seconds = Field(alias="limit")
    warned_at_share: Share


class Departure(ClauseText):
    departure_s: Seconds = Field(alias="limit")


class GeneralFault(ClauseText):
    general_fault_s: Seconds = Field(alias="limit")
    general_fault_share: Share = Field(alias="share")


class MajorFault(ClauseText):
    major_fault_s: Seconds = Field(alias="limit")


class CompensationBracket(TonnageBracket):
    per_day_yuan: int = Field(ge=0)


class Compensation(ClauseText):
    brackets: list[CompensationBracket] = Field(min_length=1)
    line_every_s: Seconds = Field(alias="line_every", gt=0)
    disputes_per_line: int = Field(ge=0)


class DedicatedExpert(ClauseText):
    dedicated_expert: bool


class Monitoring(ClauseText):
    monitored: Literal[True]


class FollowUps(ClauseText):
    follow_up_every_months: Positive = Field(alias="every_months")
    feedback_answer_s: Seconds = Field(alias="answer_within")


class Visits(ClauseText):
    visit_every_months: Positive = Field(alias="every_months")


class Checkups(ClauseText):
    every_months: Positive


class Training(ClauseText):
    training_places_per_machine: int = Field(alias="places_per_machine", ge=0)


class GoldCard(ClauseText):
    gold_purchase_year: Positive = Field(alias="purchase_year")
    gold_machines: Positive = Field(alias="machines")


class DiamondCard(ClauseText):
    diamond_machines: Positive = Field(alias="machines")


class SpecialActivities(ClauseText):
    special_activities: bool = Field(alias="offered")


class Club(ClauseText):
    club: bool = Field(alias="offered")


class Clauses(Block):
    """Every row of the policy's table; a missing one is a fault of the file."""

    W1: Cover
    W2: Cover
    W3: PartsRebate
    I1: Inspections
    I2: FreeInspections
    S1: CallBack
    S2: Departure
    S3: GeneralFault
    S4: MajorFault
    C1: Compensation
    E1: DedicatedExpert
    R1: Monitoring
    R2: FollowUps
    R3: Visits
    R4: Checkups
    T1: Training
    V1: GoldCard
    V2: DiamondCard
    A1: SpecialActivities
    V3: Club
