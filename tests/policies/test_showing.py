"""`policy show`, `policy diff` and the tables of codes: what people are shown."""

import pytest
from msgspec.structs import replace

from telemetry_svc.policies import diff, load_catalogue, load_policies, show
from telemetry_svc.telemetry import EditionId

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


def test_every_clause_is_shown_in_both_languages() -> None:
    for policy in (TEXT, REV1):
        for one in policy.clauses:
            assert f"{one.clause}  {one.sentence_en}" in show(policy, "en")
            assert f"{one.clause}  {one.sentence_zh}" in show(policy, "zh-CN")


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


@pytest.mark.parametrize(("tonnage_t", "touched"), [(12.99, 2), (13.0, 3), (19.99, 3), (20.0, 0), (30.0, 0)])
def test_which_machines_a_difference_touches(tonnage_t: float, touched: int) -> None:
    values = [one for one in diff(TEXT, REV1) if not one.where.startswith("clauses")]
    assert sum(one.touches(tonnage_t) for one in values) == touched


def test_a_plain_value_touches_every_machine() -> None:
    other = replace(REV1, inspections=replace(REV1.inspections, lead_ch=4_050), digest="other", edition=EditionId("x"))
    (one,) = diff(REV1, other)
    assert str(one) == "inspections.lead_h: 50 -> 40.5"
    assert one.touches(0.5)
    assert one.touches(999)
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
