"""`policy show`, `policy diff` and the tables of codes: what people are shown."""

from datetime import date, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_svc.policies import LANGUAGES, Language, diff, load_catalogue, load_policies, show
from telemetry_svc.rules import Policy
from telemetry_svc.store.editions import BoundMachine
from telemetry_svc.telemetry import EditionId, MachineId

TEXT, REV1 = (load_policies()[EditionId(edition)] for edition in ("zoomlion-2011", "zoomlion-2011-rev1"))


@pytest.mark.parametrize(
    "line",
    [
        "User service policy 2011 (zoomlion-2011)",
        "in force from 2011-01-01 without end",
        "    under 20 t: 2000 h or 12 months",
        "    20 t and over: 3000 h or 18 months",
        "    under 20 t: not covered",
        "    20 t to under 30 t: 1000 yuan per day",
        "    20 t and over: free",
        "    15 min",
        "    at 50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 10000 h",
        f"sha256 {TEXT.digest}",
    ],
)
def test_shown_in_english(line: str) -> None:
    assert line in show(TEXT, "en").splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "2011用户服务政策-修订(1) (zoomlion-2011-rev1)",
        "    所有机型: 6000 小时",
        "    13吨至30吨以下: 1000 元/天",
        "    所有机型: 免费",
    ],
)
def test_shown_in_chinese(line: str) -> None:
    assert line in show(REV1, "zh-CN").splitlines()


PROMISES = [
    "W1",
    "W2",
    "W3",
    "I1",
    "I2",
    "S1",
    "S2",
    "S3",
    "S4",
    "C1",
    "E1",
    "R1",
    "R2",
    "R3",
    "R4",
    "T1",
    "V1",
    "V2",
    "A1",
    "V3",
]
INTERNAL = ["fault_code", "hour_meter", "silence", "speed", "geofence", "movement", "sensors", "storm", "mass_event"]


@pytest.mark.parametrize("policy", [TEXT, REV1], ids=lambda policy: policy.edition)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_customer_is_shown_every_promise_and_nothing_else(policy: Policy, language: Language) -> None:
    """policy.md: the rows of the table "Clauses", with the numbers that a customer can hold us to."""
    paragraphs = [line for line in show(policy, language).splitlines()[3:] if line and not line.startswith("    ")]
    assert [line.split("  ")[0] for line in paragraphs] == [*PROMISES, f"sha256 {policy.digest}"]
    clauses = {one.clause: one.sentence_en if language == "en" else one.sentence_zh for one in policy.clauses}
    assert paragraphs[:-1] == [f"{name}  {clauses[name]}" for name in PROMISES]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_operator_is_shown_what_the_promises_are_kept_with_as_well(language: Language) -> None:
    lines = show(REV1, language, internal=True).splitlines()
    shown, all_lines = show(REV1, language).splitlines(), set(lines)
    assert set(shown) <= all_lines
    assert [line.split("  ")[0] for line in lines if line.split("  ")[0] in INTERNAL and "  " in line] == INTERNAL
    assert all_lines - set(shown) >= {
        "silence",
        "    after: 72 h",
        "    forecast.within: 7 d",
        "    rollback_h: 0.1",
        "    critical_spns: 98, 100, 110, 111, 175, 190",
        "    priorities.fault_critical: 1",
        "    workday_windows: 08:30-12:00, 14:00-19:30",
        "    machine.brackets: from_t 20, limit_h 3000, months 18, below_t none",
        "    telemetry_kept_days: 400",
    }


def test_the_two_editions_differ_in_three_promises() -> None:
    values = [one for one in diff(TEXT, REV1) if not one.where.startswith("clauses")]
    assert [str(one) for one in values] == [
        "inspections.free.free [from 0 t to under 20 t]: False -> True",
        "warranty.structure.brackets.limit_h [from 0 t to under 20 t]: none -> 6000",
        "compensation.brackets.per_day_yuan [from 13 t to under 20 t]: 500 -> 1000",
    ]
    assert [one.where for one in diff(TEXT, REV1) if one.where.startswith("clauses")] == [
        "clauses.W2.en",
        "clauses.W2.zh-CN",
        "clauses.I2.en",
        "clauses.I2.zh-CN",
    ]


def bound(tonnage_t: float = 22.5, **fields: Any) -> BoundMachine:
    plain: dict[str, Any] = {"delivered_on": None, "has_geofence": False, "has_permitted_hours": False}
    return BoundMachine(MachineId("ZE215-000017"), REV1.edition, tonnage_t, **(plain | fields))


@pytest.mark.parametrize(("tonnage_t", "touched"), [(12.99, 2), (13.0, 3), (19.99, 3), (20.0, 0), (30.0, 0)])
def test_which_machines_a_difference_touches(tonnage_t: float, touched: int) -> None:
    values = [one for one in diff(TEXT, REV1) if not one.where.startswith("clauses")]
    assert sum(one.touches(bound(tonnage_t)) for one in values) == touched


LONGER = replace(REV1.warranty.machine.brackets[1], months=24)
OTHER_POLICIES: dict[str, dict[str, Any]] = {
    "warranty.machine.brackets.months [from 20 t]: 18 -> 24": {
        "warranty": replace(
            REV1.warranty,
            machine=replace(REV1.warranty.machine, brackets=(REV1.warranty.machine.brackets[0], LONGER)),
        )
    },
    "geofence.clears_at_ratio: 0.95 -> 0.9": {"geofence": replace(REV1.geofence, clears_at_ratio=0.9)},
    "movement.outside_hours.call: True -> False": {
        "movement": replace(REV1.movement, outside_hours=replace(REV1.movement.outside_hours, call=False))
    },
}


NEEDED = [{"delivered_on": date(2026, 3, 15)}, {"has_geofence": True}, {"has_permitted_hours": True}]


@pytest.mark.parametrize(("told", "needed"), list(zip(OTHER_POLICIES, NEEDED, strict=True)))
def test_what_a_machine_does_not_have_cannot_be_treated_otherwise(told: str, needed: dict[str, Any]) -> None:
    (one,) = diff(REV1, replace(REV1, **OTHER_POLICIES[told]))
    assert str(one) == told
    assert one.touches(bound(**needed))
    assert not one.touches(bound())


def test_rows_are_compared_by_name_and_sets_without_an_order() -> None:
    hotter = replace(REV1.sensors.sensors[0], over=106)
    other = replace(
        REV1,
        sensors=replace(REV1.sensors, sensors=(*REV1.sensors.sensors[:0:-1], hotter), bands_running=()),
        fault_codes=replace(REV1.fault_codes, critical_spns=frozenset([190, 175, 111, 110, 100, 98])),
        silence=replace(REV1.silence, after=timedelta(hours=48)),
    )
    assert [str(one) for one in diff(REV1, other)] == [
        "silence.after: 72 h -> 48 h",
        "sensors.sensors.coolant_temperature_c.over: 105 -> 106",
    ]


def test_a_plain_value_touches_every_machine() -> None:
    other = replace(REV1, inspections=replace(REV1.inspections, lead_ch=4_050), digest="other", edition=EditionId("x"))
    (one,) = diff(REV1, other)
    assert str(one) == "inspections.lead_h: 50 -> 40.5"
    assert one.touches(bound(0.5))
    assert one.touches(bound(999))
    assert diff(REV1, REV1) == ()


def test_every_spn_and_fmi_has_a_name_in_both_languages_and_advice() -> None:
    catalogue = load_catalogue()
    assert len(catalogue.spns) == 159
    assert sorted(catalogue.fmis) == list(range(32))
    for one in catalogue.spns.values():
        assert one.name.en
        assert any("一" <= letter <= "鿿" for letter in one.name.zh)
        assert one.advice.en.endswith(".")
        assert one.advice.zh.endswith("。")


def test_a_code_in_words() -> None:
    catalogue = load_catalogue()
    assert catalogue.description(100, 1).en == (
        "Engine Oil Pressure: data valid but below normal operational range, most severe level"
    )
    assert catalogue.description(110, 0).zh == "发动机冷却液温度：数据有效但高于正常范围（最严重）"  # noqa: RUF001
    assert catalogue.description(424_242, 31).en == "SPN 424242: condition exists"
    assert catalogue.advice(424_242).en.startswith("The code is not in our table")
    assert "oil level" in catalogue.advice(100).en
