"""The numbers of the policy that no reading decides: service levels, compensation, entitlements, the call queue.

The notifier, the cases and the console carry these out; they stand here because one policy file is one frozen object,
whoever acts on it. Durations end in `_s` (seconds), money in `_yuan`.
"""

from msgspec import Struct


class ServiceLevelBlock(Struct, frozen=True):
    """S1 to S4: limits from the customer's report; shares from 0 to 1."""

    call_back_s: float
    departure_s: float
    general_fault_s: float
    general_fault_share: float
    major_fault_s: float
    warned_at_share: float


class CompensationBracket(Struct, frozen=True):
    """C1: from this tonnage (inclusive) up to `below_t` (exclusive)."""

    from_t: float
    per_day_yuan: int
    below_t: float | None = None


class CompensationBlock(Struct, frozen=True):
    brackets: tuple[CompensationBracket, ...]
    line_every_s: float
    disputes_per_line: int


class EntitlementsBlock(Struct, frozen=True):
    """W3, E1, R2, R3, T1, V1, V2, A1, V3: what a machine, a purchase or a customer is entitled to."""

    parts_rebate: bool
    parts_rebate_period: str
    dedicated_expert: bool
    follow_up_every_months: int
    feedback_answer_s: float
    visit_every_months: int
    training_places_per_machine: int
    gold_purchase_year: int
    gold_machines: int
    diamond_machines: int
    special_activities: bool
    club: bool


class OutcomeRule(Struct, frozen=True):
    """What the outcome of a call does to its task. `retry_after_s` None = no retry by time."""

    name: str
    completes: bool
    retry_after_s: float | None = None
    urgent_retry_after_s: float | None = None
    counts_attempt: bool = True
    next_contact: bool = False


class CallWindow(Struct, frozen=True):
    """`HH:MM` in the machine's own zone, `to` excluded."""

    from_: str
    to: str


class CallQueueBlock(Struct, frozen=True):
    """The section "The call queue" of policy.md. "urgent" = `urgent_priorities`."""

    rank_offset_h: tuple[float, ...]
    diamond_bonus_h: float
    gold_bonus_h: float
    priorities: dict[str, int]
    urgent_priorities: tuple[int, ...]
    workday_windows: tuple[CallWindow, ...]
    holiday_windows: tuple[CallWindow, ...]
    windowed_priorities: tuple[int, ...]
    unwindowed_reasons: tuple[str, ...]
    attempts_per_day: int
    attempts_per_task: int
    outcomes: tuple[OutcomeRule, ...]
    route_team_after_s: float
    route_anyone_after_s: float
    urgent_route_team_after_s: float
    urgent_route_anyone_after_s: float
    lease_default_s: int
    lease_max_s: int
    leases_per_expert: int
    later_stage_after_appointment_s: float
    dissatisfied_up_to: int
    complaint_repeat_days: int
    claim_answer_s: float
    claim_answer_share: float


class MassEventBlock(Struct, frozen=True):
    """More than `machines` with the same rule and code within `within_s`; a notice again every `remind_s`."""

    machines: int
    within_s: float
    remind_s: float


class CasesBlock(Struct, frozen=True):
    """Sections "Cases" and "Duties"."""

    repeat_within_days: int
    records_kept_days: int
    telemetry_kept_days: int
    idle_account_days: int
