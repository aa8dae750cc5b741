"""An edition for a person: every promise in one sentence, and its numbers (policy.md: "what a customer may be shown").

In English or Chinese; the sentences are the file's own, the numbers are read from the frozen policy, so that what
is shown is what is done. What the promises are kept with (thresholds, the call queue) is shown to operators only.
"""
# ruff: noqa: RUF001 - Chinese punctuation

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

from telemetry_svc.policies.clauses import Clauses
from telemetry_svc.policies.plain import Plain, plain, text_of
from telemetry_svc.rules.policy import Clause, Policy
from telemetry_svc.rules.warranty import CoverBracket
from telemetry_svc.units import hours_from

Language = Literal["en", "zh-CN"]
LANGUAGES: tuple[Language, ...] = ("en", "zh-CN")


class _Bracket(Protocol):
    @property
    def from_t(self) -> float: ...

    @property
    def below_t(self) -> float | None: ...


def show(policy: Policy, language: Language = "en", *, internal: bool = False) -> str:
    """The edition as plain text, a paragraph per clause of the policy; ends with the file's digest.

    `internal`: also what abnormal means and every value, for operators.
    """
    title = policy.title_en if language == "en" else policy.title_zh
    lines = [f"{title} ({policy.edition})", _in_force(policy, language), ""]
    for clause in policy.clauses:
        if clause.clause in Clauses.model_fields:
            lines.append(_sentence(clause, language))
            numbers = _NUMBERS.get(clause.clause)
            lines.extend(f"    {line}" for line in (numbers(policy, language) if numbers else ()))
    if internal:
        lines.extend(_internal(policy, language))
    return "\n".join([*lines, "", f"sha256 {policy.digest}", ""])


def _sentence(clause: Clause, language: Language) -> str:
    return f"{clause.clause}  {clause.sentence_en if language == 'en' else clause.sentence_zh}"


def _internal(policy: Policy, language: Language) -> Iterator[str]:
    yield from ("", {"en": "Internal, not for customers", "zh-CN": "内部内容，不向客户出示"}[language], "")
    yield from (_sentence(one, language) for one in policy.clauses if one.clause not in Clauses.model_fields)
    for name, block in plain(policy).items():
        if isinstance(block, Mapping):
            yield from ("", name, *(f"    {line}" for key, value in block.items() for line in _value_lines(key, value)))


def _value_lines(where: str, value: Plain) -> Iterator[str]:
    """`within: 24 h`, `forecast.within: 7 d`; a row of values is one line."""
    named = {f"{where}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {where: value}
    for name, one in named.items():
        is_rows = isinstance(one, list) and one and isinstance(one[0], Mapping)
        yield from (f"{name}: {text_of(row)}" for row in (one if is_rows else [one]))  # type: ignore[union-attr]


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


def _general_fault(policy: Policy, language: Language) -> list[str]:
    levels = policy.service_levels
    return [*_duration(levels.general_fault_s, language), f"{levels.general_fault_share:.0%}"]


def _every(months: int, language: Language) -> list[str]:
    if language == "zh-CN":
        return [f"每{months}个月一次"]
    return ["every month" if months == 1 else f"every {months} months"]


def _machines(number: int, language: Language) -> list[str]:
    return [{"en": f"{number} machines or more", "zh-CN": f"累计{number}台及以上"}[language]]


_NUMBERS: dict[str, Callable[[Policy, Language], Sequence[str]]] = {
    "W1": lambda policy, language: _cover(policy.warranty.machine.brackets, language),
    "W2": lambda policy, language: _cover(policy.warranty.structure.brackets, language),
    "I1": _inspections,
    "I2": _free,
    "S1": lambda policy, language: _duration(policy.service_levels.call_back_s, language),
    "S2": lambda policy, language: _duration(policy.service_levels.departure_s, language),
    "S3": _general_fault,
    "S4": lambda policy, language: _duration(policy.service_levels.major_fault_s, language),
    "C1": _compensation,
    "R2": lambda policy, language: _every(policy.entitlements.follow_up_every_months, language),
    "R3": lambda policy, language: _every(policy.entitlements.visit_every_months, language),
    "R4": lambda policy, language: _every(policy.checkups.every_months, language),
    "V1": lambda policy, language: _machines(policy.entitlements.gold_machines, language),
    "V2": lambda policy, language: _machines(policy.entitlements.diamond_machines, language),
}
