"""What `why` adds to the story in words, in both languages: when it was noticed, by whom, what it means, what is free.

Only the policy's own promises are told as free (policy.md, W1, W2, I2); where the policy is silent, so is the text.
"""
# ruff: noqa: RUF001 - Chinese punctuation

from datetime import UTC, datetime

from telemetry_svc.events import Anomaly, MaintenanceDue
from telemetry_svc.policies import Catalogue, Language
from telemetry_svc.policies.catalogue import Text
from telemetry_svc.rules.warranty import CoverageState

_SPN_OF_SENSOR = {"coolant_temperature_c": 110, "oil_pressure_kpa": 100, "battery_v": 168, "fuel_level_pct": 96}
"""The sensors of a ping as suspect parameters (SAE J1939), for the same advice as on their fault codes."""

_FREE = Text(
    "Labour and mileage of this inspection are free of charge (I2); parts are not.",
    "本次定检免收人工费与里程费（I2），配件费用另计。",
)
_PAID = Text(
    "Under its edition this machine's inspections are not free: labour, mileage and parts are paid for (I2).",
    "按该版本政策，本机型定检不免费，人工费、里程费和配件费用均需支付（I2）。",
)
_LAPSED = Text(
    "A free inspection that lapses is not made up for (I2).", "因后续定检已完成而失效的免费定检不再补做（I2）。"
)
_STILL_COVERED = Text(
    "Until it ends the promise holds as before; after that the price is agreed before any work begins.",
    "到期之前三包责任不变；到期之后，施工前先商定价格。",
)
_ENDED = Text(
    "What it covered is no longer free of charge; the price is agreed before any work begins.",
    "原三包范围内的维修不再免费，施工前先商定价格。",
)
_CHECKUP = Text(
    "The yearly check-up is promised (R4); the policy does not state what it costs.",
    "每年一次“体检”为政策承诺（R4），政策未说明其费用。",
)
_COVERED = {
    "machine": Text("the whole-machine warranty (W1)", "整机三包（W1）"),
    "structure": Text("the structural warranty (W2)", "结构件三包（W2）"),
}
_ONLY_TOLD = Text(
    "Being told is free of charge; nothing else follows from the policy.", "提示免费，政策未规定其他费用事项。"
)


def in_language(text: Text, language: Language) -> str:
    return text.en if language == "en" else text.zh


def noticed(at: datetime, *, by_replay: bool, language: Language) -> str:
    """When it was noticed, and by whom where that was not ingest."""
    moment = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if by_replay:
        return in_language(
            Text(f"A replay of stored history found it at {moment}.", f"{moment} 由历史重放发现。"), language
        )
    return in_language(Text(f"It was noticed at {moment}.", f"发现时间为 {moment}。"), language)


def decided_by(rule: str, rule_version: int | None, service_version: str | None, language: Language) -> str:
    """Which rule in which of its versions, and the version of the service around it."""
    unknown = in_language(Text("not recorded", "未记录"), language)
    number, service = rule_version or unknown, service_version or unknown
    return in_language(
        Text(
            f"Rule {rule}, version {number} (service version {service}).",
            f"规则 {rule}，版本 {number}（服务版本 {service}）。",
        ),
        language,
    )


def meaning(data: MaintenanceDue | Anomaly, catalogue: Catalogue) -> tuple[Text | None, Text | None]:
    """What a code stands for, and what the expert asks and checks first; nothing where the tables have no word."""
    if not isinstance(data, Anomaly):
        return None, None
    if data.fault is not None:
        return catalogue.description(data.fault.spn, data.fault.fmi), catalogue.advice(data.fault.spn)
    spn = _SPN_OF_SENSOR.get(data.rule)
    return None, None if spn is None else catalogue.advice(spn)


def meaning_line(meaning: str, language: Language) -> str:
    return in_language(Text(f"It means: {meaning}.", f"含义：{meaning}。"), language)


def advice_line(advice: str, language: Language) -> str:
    return in_language(Text(f"Advice: {advice}", f"建议：{advice}"), language)


def free(data: MaintenanceDue | Anomaly, covers: tuple[CoverageState, ...]) -> Text:
    """What is free of charge and what is not. `covers`: the machine's warranties as they stand now."""
    if isinstance(data, Anomaly):
        return _repair(covers) if data.kind in ("fault", "sensor") else _ONLY_TOLD
    match data.kind:
        case "inspection" if data.stage == "superseded":
            return _LAPSED
        case "inspection":
            return _FREE if data.free_of_charge else _PAID
        case "warranty":
            return _ENDED if data.stage == "expired" else _STILL_COVERED
        case "checkup":
            return _CHECKUP


def _repair(covers: tuple[CoverageState, ...]) -> Text:
    """A repair is free as far as a warranty that has not ended covers it."""
    running = [_COVERED[one.coverage] for one in covers if one.stage != "expired"]
    if not running:
        return Text(
            "No warranty of this machine is in force today: the price of a repair is agreed before work begins.",
            "本机目前没有有效的三包：维修前先商定价格。",
        )
    return Text(
        f"A repair is free as far as it is covered by {' or '.join(one.en for one in running)}, in force today;"
        " outside it the price is agreed before work begins.",
        f"目前有效：{'、'.join(one.zh for one in running)}；三包范围内维修免费，范围之外施工前先商定价格。",
    )


def other_file(edition: str, *, is_loaded: bool, language: Language) -> str:
    """The file that decided is not the one at hand."""
    if is_loaded:
        text = Text(
            f"The file of {edition} has changed since: the sentences above are those of today's file.",
            f"{edition} 的政策文件此后有变更，以上条款为现行文件的表述。",
        )
    else:
        text = Text(
            f"The edition {edition} is not loaded here: its clauses cannot be shown.",
            f"此处未加载版本 {edition}，无法显示其条款。",
        )
    return in_language(text, language)
