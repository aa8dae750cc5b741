"""An edition for a person: every clause in one sentence, and the numbers behind it (policy.md: "what a customer may
be shown").

In English or Chinese; the sentences are the file's own, the numbers are read from the frozen policy, so that what
is shown is what is done.
"""
# ruff: noqa: RUF001 - Chinese punctuation

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.warranty import CoverBracket
from telemetry_svc.units import hours_from

Language = Literal["en", "zh-CN"]
LANGUAGES: tuple[Language, ...] = ("en", "zh-CN")


class _Bracket(Protocol):
    @property
    def from_t(self) -> float: ...

    @property
    def below_t(self) -> float | None: ...


def show(policy: Policy, language: Language = "en") -> str:
    """The edition as plain text, a paragraph per clause; ends with the file's digest."""
    title, sentence_of = (policy.title_en, "sentence_en") if language == "en" else (policy.title_zh, "sentence_zh")
    lines = [f"{title} ({policy.edition})", _in_force(policy, language), ""]
    for clause in policy.clauses:
        lines.append(f"{clause.clause}  {getattr(clause, sentence_of)}")
        numbers = _NUMBERS.get(clause.clause)
        lines.extend(f"    {line}" for line in (numbers(policy, language) if numbers else ()))
    return "\n".join([*lines, "", f"sha256 {policy.digest}", ""])


def _in_force(policy: Policy, language: Language) -> str:
    begin, until = policy.in_force_from, policy.in_force_until
    if language == "en":
        return f"in force from {begin} " + ("without end" if until is None else f"until {until}")
    return f"自{begin}起生效，" + ("长期有效" if until is None else f"至{until}止")


def _range(row: _Bracket, language: Language) -> str:
    """A tonnage bracket in words."""
    begin, end = f"{row.from_t:g}", "" if row.below_t is None else f"{row.below_t:g}"
    match (row.from_t == 0, row.below_t is None):
        case (True, True):
            return {"en": "every machine", "zh-CN": "所有机型"}[language]
        case (True, False):
            return {"en": f"under {end} t", "zh-CN": f"{end}吨以下"}[language]
        case (False, True):
            return {"en": f"{begin} t and over", "zh-CN": f"{begin}吨及以上"}[language]
        case _:
            return {"en": f"{begin} t to under {end} t", "zh-CN": f"{begin}吨至{end}吨以下"}[language]


def _cover(rows: Iterable[CoverBracket], language: Language) -> list[str]:
    return [f"{_range(row, language)}: {_limits(row, language)}" for row in rows]


def _limits(row: CoverBracket, language: Language) -> str:
    parts = []
    if row.limit_ch is not None:
        parts.append(f"{hours_from(row.limit_ch):g} " + {"en": "h", "zh-CN": "小时"}[language])
    if row.months is not None:
        parts.append(f"{row.months} " + {"en": "months", "zh-CN": "个月"}[language])
    return {"en": " or ", "zh-CN": "或"}[language].join(parts) or {"en": "not covered", "zh-CN": "不在范围内"}[language]


def _inspections(policy: Policy, language: Language) -> list[str]:
    block = policy.inspections
    milestones = ", ".join(map(str, block.milestones_h))
    first, lead, grace = (hours_from(ch) for ch in (block.lead_first_ch, block.lead_ch, block.overdue_after_ch))
    if language == "en":
        return [f"at {milestones} h", f"told {first:g} h (the first) or {lead:g} h before; overdue {grace:g} h after"]
    return [f"{milestones} 小时", f"首次提前{first:g}小时、其余提前{lead:g}小时提醒，超过{grace:g}小时为逾期"]


def _free(policy: Policy, language: Language) -> list[str]:
    words = {"en": ("free", "paid"), "zh-CN": ("免费", "收费")}[language]
    return [f"{_range(row, language)}: {words[0 if row.free else 1]}" for row in policy.inspections.free]


def _compensation(policy: Policy, language: Language) -> list[str]:
    unit = {"en": "yuan per day", "zh-CN": "元/天"}[language]
    return [f"{_range(row, language)}: {row.per_day_yuan} {unit}" for row in policy.compensation.brackets]


def _duration(seconds: float, language: Language) -> list[str]:
    hours, minutes = {"en": ("h", "min"), "zh-CN": ("小时", "分钟")}[language]
    return [f"{seconds / 60:g} {minutes}" if seconds < 3600 else f"{seconds / 3600:g} {hours}"]


_NUMBERS: dict[str, Callable[[Policy, Language], Sequence[str]]] = {
    "W1": lambda policy, language: _cover(policy.warranty.machine.brackets, language),
    "W2": lambda policy, language: _cover(policy.warranty.structure.brackets, language),
    "I1": _inspections,
    "I2": _free,
    "S1": lambda policy, language: _duration(policy.service_levels.call_back_s, language),
    "S2": lambda policy, language: _duration(policy.service_levels.departure_s, language),
    "S3": lambda policy, language: _duration(policy.service_levels.general_fault_s, language),
    "S4": lambda policy, language: _duration(policy.service_levels.major_fault_s, language),
    "C1": _compensation,
}
