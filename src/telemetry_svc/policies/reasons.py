"""Why a fact was decided, in words: what it is, which readings decided it, and the clause of the policy behind it.

For `GET /v1/alerts/{id}/why` and the script of a call. Everything is read from the event and from the edition that
decided it; nothing is judged again. Times are UTC, as they stand in the event.
"""
# ruff: noqa: RUF001 - Chinese punctuation

from datetime import UTC, datetime

from telemetry_svc.events import Anomaly, Event, Evidence, MaintenanceDue
from telemetry_svc.policies.catalogue import load_catalogue
from telemetry_svc.policies.showing import Language
from telemetry_svc.rules.policy import Policy

_STAGES = {
    "upcoming": ("will soon be due", "即将到期"),
    "due": ("is due", "已到期"),
    "overdue": ("is overdue", "已逾期"),
    "completed": ("was done", "已完成"),
    "superseded": ("lapsed, because a later one was done", "因后续项目已完成而失效"),
    "expiring": ("will soon end", "即将到期"),
    "expired": ("has ended", "已到期"),
}
_PHASES = {
    "opened": ("was noticed", "出现"),
    "worsened": ("became more severe", "加重"),
    "cleared": ("is over", "消除"),
}
_COVERAGES = {
    "machine": ("The whole-machine warranty", "整机三包"),
    "structure": ("The structural warranty", "结构件三包"),
}
_SEVERITIES = {
    "critical": ("critical", "严重"),
    "major": ("major", "重大"),
    "general": ("general", "一般"),
    "warning": ("warning", "提示"),
}
_RULES = {
    "hour_meter": ("An implausible hour meter", "小时表读数异常"),
    "silence": ("Silence of the machine", "设备无数据"),
    "storm": ("A storm of anomalies", "异常风暴"),
    "speed": ("An impossible speed", "不可能的移动速度"),
    "geofence": ("Leaving the agreed area", "驶出约定区域"),
    "engine_off_movement": ("Moving with the engine off", "熄火状态下移动"),
    "outside_hours": ("Moving outside permitted hours", "在允许时间之外移动"),
    "coolant_temperature_c": ("Coolant temperature out of its band", "冷却液温度超限"),
    "oil_pressure_kpa": ("Oil pressure out of its band", "机油压力超限"),
    "battery_v": ("Battery voltage out of its band", "蓄电池电压超限"),
    "fuel_level_pct": ("A low fuel level", "燃油量过低"),
}
_CLAUSE_OF = {
    "fault": "fault_code",
    "hour_meter": "hour_meter",
    "silence": "silence",
    "sensor": "sensors",
    "storm": "storm",
    "speed": "speed",
    "geofence": "geofence",
    "engine_off_movement": "movement",
    "outside_hours": "movement",
}


def why(policy: Policy, event: Event, language: Language = "en") -> tuple[str, ...]:
    """The story in lines: the fact, the readings, the clause, the edition. `policy`: the edition that decided it."""
    which = 0 if language == "en" else 1
    return (
        _fact(event, which),
        *(_beginning(evidence, which) for evidence in event.evidence[:-1]),
        *(_reading(event, evidence, which) for evidence in event.evidence[-1:]),
        *([] if event.evidence else [_without_reading(event, which)]),
        *_clauses(policy, event, which),
        _edition(event, which),
    )


def _fact(event: Event, which: int) -> str:
    moment = _moment(event.time)
    if isinstance(event.data, MaintenanceDue):
        subject, verb = _promise(event.data, which), _STAGES[event.data.stage][which]
    else:
        severity = _SEVERITIES[event.data.severity][which]
        subject, verb = f"{_anomaly(event.data, which)} ({severity})", _PHASES[event.data.phase][which]
    return (f"{subject} {verb}, as of {moment}.", f"{subject}{verb}，时间为 {moment}。")[which]


def _promise(data: MaintenanceDue, which: int) -> str:
    if data.coverage is not None:
        return _COVERAGES[data.coverage][which]
    if data.kind == "inspection":
        return (f"The inspection at {data.milestone_h} h", f"{data.milestone_h} 小时定检")[which]
    return (f"Yearly check-up {data.checkup_no}", f"第 {data.checkup_no} 次年度体检")[which]


def _anomaly(data: Anomaly, which: int) -> str:
    if data.fault is None:
        return _RULES[data.rule][which]
    text = load_catalogue().description(data.fault.spn, data.fault.fmi)
    code = f"SPN {data.fault.spn} FMI {data.fault.fmi}"
    return (f"Fault code {code}, {text.en},", f"故障码 {code}（{text.zh}）")[which]


def _beginning(evidence: Evidence, which: int) -> str:
    moment = _moment(evidence.recorded_at)
    return (f"It began with the reading of {moment}.", f"始于 {moment} 的读数。")[which]


def _reading(event: Event, evidence: Evidence, which: int) -> str:
    """The reading that decided, or, where time or an operator did, the last one known."""
    values = ", ".join(f"{name} = {value}" for name, value in evidence.values.items() if value is not None)
    moment = _moment(evidence.recorded_at)
    told = (f": {values}", f"：{values}")[which] if values else ""
    if evidence.recorded_at == event.time or (event.rule, event.stage) == ("silence", "cleared"):
        return (f"The reading of {moment} decided it{told}.", f"依据 {moment} 的读数{told}。")[which]
    return (
        f"No reading decided it; the last one was that of {moment}{told}.",
        f"非读数决定，此前最新读数为 {moment}{told}。",
    )[which]


def _without_reading(event: Event, which: int) -> str:
    is_command = event.data.stage in ("completed", "superseded") if isinstance(event.data, MaintenanceDue) else False
    if is_command:
        return ("A report that the work was done decided it.", "依据已完成的报告。")[which]
    return ("The calendar decided it, no reading was needed.", "由日历决定，无需读数。")[which]


def _clauses(policy: Policy, event: Event, which: int) -> list[str]:
    """The row of the table, and, of an anomaly, the block that says what abnormal means."""
    names = [event.data.policy_clause]
    if isinstance(event.data, Anomaly):
        names.append(_CLAUSE_OF.get(event.data.rule, _CLAUSE_OF.get(event.data.kind, "")))
    found = [clause for name in names if (clause := policy.clause(name)) is not None]
    return [f"{one.clause}: {(one.sentence_en, one.sentence_zh)[which]}" for one in found]


def _edition(event: Event, which: int) -> str:
    edition, digest = event.data.policy_edition, event.data.policy_digest[:12]
    return (f"Edition {edition}, file {digest}.", f"版本 {edition}，文件 {digest}。")[which]


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
