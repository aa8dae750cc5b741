"""W1, W2 and R4: hours and months at both sides, month ends, leap days, zones, silence."""

from datetime import timedelta
from typing import Any

import pytest

from telemetry_svc.rules.inspections import NEVER_CH
from telemetry_svc.rules.warranty import CoverageBlock, CoverBracket, WarrantyBlock, covers
from telemetry_svc.telemetry import Tick
from tests.rules.machines import REV1, TEXT_EDITION, Run, decision, done, due_data, machine, reading, utc

EXPIRING, EXPIRED = ["warranty machine expiring"], ["warranty machine expired", "checkup 1 due"]
AT = utc("2026-11-22 04:20:31")
REGISTERED = utc("2026-01-15 02:00")


def promises(words: list[str]) -> list[str]:
    return [one for one in words if not one.startswith("inspection")]


@pytest.mark.parametrize(
    ("edition", "tonnage_t", "hours_h", "wanted"),
    [
        pytest.param(REV1, 19.9, 1_899.99, [], id="19.9 t before its window"),
        pytest.param(REV1, 19.9, 1_900.00, ["warranty machine expiring"], id="19.9 t, 100 h before"),
        pytest.param(REV1, 19.9, 1_999.99, ["warranty machine expiring"], id="19.9 t, a hundredth short"),
        pytest.param(REV1, 19.9, 2_000.00, ["warranty machine expired", "checkup 1 due"], id="19.9 t at 2000 h"),
        pytest.param(REV1, 20.0, 2_899.99, [], id="exactly 20 t takes the longer one"),
        pytest.param(REV1, 20.0, 2_900.00, ["warranty machine expiring"], id="20 t, 100 h before"),
        pytest.param(REV1, 20.0, 2_999.99, ["warranty machine expiring"], id="2 999.99"),
        pytest.param(REV1, 20.0, 3_000.00, ["warranty machine expired", "checkup 1 due"], id="3 000.00"),
        pytest.param(TEXT_EDITION, 19.9, 9_000.0, ["warranty machine expired", "checkup 1 due"], id="no W2 under 20 t"),
        pytest.param(
            TEXT_EDITION,
            20.0,
            5_900.0,
            ["warranty machine expired", "checkup 1 due", "warranty structure expiring"],
            id="W2 at 20 t in the text edition",
        ),
        pytest.param(
            REV1,
            0.5,
            6_000.0,
            ["warranty machine expired", "checkup 1 due", "warranty structure expired"],
            id="W2 of every machine in the revised edition",
        ),
    ],
)
def test_by_hours(edition: str, tonnage_t: float, hours_h: float, wanted: list[str]) -> None:
    run = Run(machine(tonnage_t, policy_edition=edition))
    assert promises(run.read(reading(AT, hours_h))) == wanted
    assert {run.one(word).time for word in wanted} <= {AT}
    assert run.read(reading(AT, hours_h)) == []


@pytest.mark.parametrize(
    ("tonnage_t", "delivered_on", "zone", "window_at", "ends_at"),
    [
        pytest.param(
            22.5, "2026-03-15", "Asia/Shanghai", "2027-08-15 16:00", "2027-09-15 16:00", id="18 months, China"
        ),
        pytest.param(19.9, "2026-03-15", "Asia/Shanghai", "2027-02-12 16:00", "2027-03-15 16:00", id="12 months"),
        pytest.param(22.5, "2026-08-31", "UTC", "2028-01-30", "2028-03-01", id="clamped to a leap day"),
        pytest.param(22.5, "2027-08-31", "UTC", "2029-01-29", "2029-03-01", id="clamped to 28 February"),
        pytest.param(19.9, "2028-02-29", "UTC", "2029-01-29", "2029-03-01", id="from a leap day, 12 months"),
        pytest.param(22.5, "2026-03-15", "America/Sao_Paulo", "2027-08-16 03:00", "2027-09-16 03:00", id="São Paulo"),
        pytest.param(
            22.5, "2026-09-27", "Europe/Berlin", "2028-02-25 23:00", "2028-03-27 22:00", id="across the change"
        ),
    ],
)
def test_by_the_calendar_without_any_ping(
    tonnage_t: float, delivered_on: str, zone: str, window_at: str, ends_at: str
) -> None:
    run = Run(machine(tonnage_t, delivered_on=delivered_on, time_zone=zone))
    one_second = utc("2026-01-01 00:00:01") - utc("2026-01-01")
    assert run.tick(utc(window_at) - one_second) == []
    assert run.state.next_check_at == utc(window_at)
    assert run.tick(utc(window_at)) == ["warranty machine expiring"]
    assert run.one("warranty machine expiring").time == utc(window_at)
    assert run.state.next_check_at == utc(ends_at)
    assert run.tick(utc(ends_at) - one_second) == []
    assert run.tick(utc(ends_at)) == ["warranty machine expired", "checkup 1 due"]
    for word in ("warranty machine expired", "checkup 1 due"):
        assert run.one(word).time == utc(ends_at)
        assert due_data(run.one(word)).true_hours_h is None
        assert due_data(run.one(word)).recorded_at is None
    expired, checkup = due_data(run.one("warranty machine expired")), due_data(run.one("checkup 1 due"))
    assert (expired.policy_clause, expired.coverage, expired.checkup_no) == ("W1", "machine", None)
    assert (checkup.policy_clause, checkup.coverage, checkup.checkup_no) == ("R4", None, 1)


def test_a_late_tick_that_finds_both_says_only_that_it_expired() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    assert run.tick(utc("2028-01-01")) == ["warranty machine expired", "checkup 1 due"]
    assert run.one("warranty machine expired").time == utc("2027-09-15 16:00")


def test_a_reading_dated_after_the_end_decides_as_the_tick_would() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    assert promises(run.read(reading(utc("2027-09-20"), 3_500))) == ["warranty machine expired", "checkup 1 due"]
    assert run.one("warranty machine expired").time == utc("2027-09-15 16:00")
    assert run.tick(utc("2027-09-21")) == []


def test_hours_first_then_no_second_expiry_by_date() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    assert promises(run.read(reading(AT, 3_000))) == ["warranty machine expired", "checkup 1 due"]
    assert run.tick(utc("2027-09-16")) == []
    assert run.one("checkup 1 due").time == AT


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        pytest.param({"delivered_on": "2024-01-01"}, [], id="the months are past"),
        pytest.param({"initial_h": 3_000}, [], id="the hours are past"),
        pytest.param({"initial_h": 2_999.99}, [], id="a lead by hours waits for a reading"),
        pytest.param({"delivered_on": "2024-07-20"}, ["warranty machine expiring"], id="an open window is announced"),
        pytest.param({"delivered_on": "2024-08-16"}, [], id="the window opens tomorrow"),
    ],
)
def test_at_registration(fields: dict[str, Any], wanted: list[str]) -> None:
    run = Run(machine(**fields), at=REGISTERED)
    assert run.words == wanted


@pytest.mark.parametrize(
    ("before_s", "wanted"),
    [pytest.param(1, ["warranty machine expiring"], id="a second before"), pytest.param(0, [], id="at that midnight")],
)
def test_registered_when_it_ends(before_s: int, wanted: list[str]) -> None:
    run = Run(machine(delivered_on="2026-03-15"), at=utc("2027-09-15 16:00") - timedelta(seconds=before_s))
    assert run.words == wanted


def test_registered_at_the_midnight_of_a_check_up_settles_it() -> None:
    run = Run(machine(delivered_on="2024-01-01"), at=utc("2026-07-01 16:00"))
    assert run.words == []
    assert run.state.next_check_at == utc("2027-07-01 16:00")


@pytest.mark.parametrize(
    ("hours_h", "last"),
    [
        pytest.param(
            3_000, ["inspection 3000 due", "warranty machine expired", "checkup 1 due"], id="the end stands at 3000"
        ),
        pytest.param(
            2_960, ["inspection 2500 overdue", "warranty machine expiring", "inspection 3000 upcoming"], id="the window"
        ),
        pytest.param(5_960, ["warranty structure expiring", "inspection 6000 upcoming"], id="the window of W2"),
    ],
)
def test_facts_of_one_reading_come_by_the_hours_they_stand_at(hours_h: float, last: list[str]) -> None:
    assert Run().read(reading(AT, hours_h))[-len(last) :] == last


def test_the_next_hours_are_those_of_the_next_stage() -> None:
    """What an ordinary reading is compared with: too low costs time, too high a promise."""
    run = Run(machine(initial_h=2_600))
    assert run.read(reading(AT, 2_700), reading(AT + timedelta(days=30), 2_899.99)) == []
    assert run.state.maintenance.next_hours_ch == 290_000
    assert run.read(reading(AT + timedelta(days=31), 2_900)) == ["warranty machine expiring"]
    assert run.state.maintenance.next_hours_ch == 295_000, "inspection 3000, upcoming"
    assert run.read(reading(AT + timedelta(days=33), 2_950)) == ["inspection 3000 upcoming"]
    assert run.state.maintenance.next_hours_ch == 300_000
    run.read(reading(AT + timedelta(days=40), 3_050))
    assert run.state.maintenance.next_hours_ch == 395_000, "inspection 4000; what has ended ends no more"


def test_a_cover_by_months_alone_or_none_at_all() -> None:
    machine_block = CoverageBlock((CoverBracket(20, months=6),), 10_000, 30)
    structure_block = CoverageBlock((CoverBracket(20, limit_ch=None, months=None),), 10_000)
    block = WarrantyBlock(machine_block, structure_block)
    (covered,) = covers(block, machine(22.5, delivered_on="2026-03-15"))
    assert (covered.coverage, covered.ends_at, covered.limit_ch) == ("machine", utc("2026-09-15 16:00"), NEVER_CH)
    assert covers(block, machine(19.9, delivered_on="2026-03-15")) == (), "no bracket has 19.9 t"


def test_what_ended_at_registration_does_not_end_again() -> None:
    run = Run(machine(delivered_on="2024-01-01"), at=REGISTERED)
    assert promises(run.read(reading(AT, 3_500))) == ["checkup 2 due"], "the calendar's, noticed by the reading"
    assert run.one("checkup 2 due").time == utc("2026-07-01 16:00")


def test_a_change_that_puts_the_end_into_the_past_is_silent() -> None:
    run = Run(machine(22.5))
    run.read(reading(AT, 2_500))
    assert run.change(utc("2026-11-23"), tonnage_t=15.0) == []
    assert promises(run.read(reading(utc("2026-11-24"), 2_501))) == []
    assert run.change(utc("2026-11-25"), tonnage_t=30.0) == []
    assert promises(run.read(reading(utc("2026-12-20"), 3_100))) == [], "one that has ended does not end again"


def test_a_delivery_date_told_later_opens_the_window_at_once() -> None:
    run = Run(machine())
    assert run.change(utc("2026-11-22"), delivered_on=__import__("datetime").date(2025, 6, 1)) == [
        "warranty machine expiring"
    ]


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        pytest.param({"delivered_on": "2024-01-01"}, ("2 due", "2026-07-01 16:00"), id="counted from the end by date"),
        pytest.param({"delivered_on": "2022-01-01"}, ("4 due", "2026-07-01 16:00"), id="three of them are past"),
        pytest.param({"initial_h": 3_000}, ("2 due", "2027-01-14 16:00"), id="else from the day of registration"),
        pytest.param(
            {"initial_h": 3_000, "delivered_on": "2024-07-14"}, ("2 due", "2027-01-14 16:00"), id="the end is today"
        ),
    ],
)
def test_check_ups_of_a_machine_out_of_warranty_at_registration(fields: dict[str, Any], first: tuple[str, str]) -> None:
    run = Run(machine(**fields), at=REGISTERED)
    assert run.words == []
    assert run.state.next_check_at == utc(first[1])
    assert run.tick(utc(first[1])) == [f"checkup {first[0]}"]


def test_an_old_reading_announces_the_first_check_up_and_settles_those_up_to_the_registration() -> None:
    run = Run(machine(), at=REGISTERED)
    assert promises(run.read(reading(utc("2022-11-30 17:41:23"), 3_100))) == [
        "warranty machine expired",
        "checkup 1 due",
    ]
    assert run.one("checkup 1 due").time == utc("2022-11-30 17:41:23")
    assert run.state.next_check_at == utc("2026-11-30 16:00"), "1 December in China, four years on"
    assert run.tick(utc("2026-11-30 16:00")) == ["checkup 5 due"]


def test_check_ups_done() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    run.tick(utc("2029-12-01"))
    assert [one for one in run.words if one.startswith("checkup")] == [
        "checkup 1 due",
        "checkup 2 due",
        "checkup 3 due",
    ]
    assert run.give(done(None, utc("2029-12-02"), checkup_no=2)) == ["checkup 1 superseded", "checkup 2 completed"]
    assert {run.one(one).time for one in ("checkup 1 superseded", "checkup 2 completed")} == {utc("2029-12-02")}
    assert due_data(run.one("checkup 2 completed")).checkup_no == 2
    assert run.give(done(None, utc("2029-12-02"), checkup_no=1)) == []
    assert run.last.rejected == "check-up 1 is already settled"
    assert run.give(done(None, utc("2029-12-03"), checkup_no=5)) == []
    assert run.last.rejected == "check-up 5 lies beyond the next one (4)"
    assert run.give(done(None, utc("2029-12-03"), checkup_no=4)) == ["checkup 3 superseded", "checkup 4 completed"]
    assert run.tick(utc("2031-09-15 16:00")) == ["checkup 5 due"]


def test_the_first_check_up_done_before_the_warranty_ends_is_settled() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    assert run.give(done(None, utc("2027-01-01"), checkup_no=1)) == ["checkup 1 completed"]
    assert run.tick(utc("2027-09-15 16:00")) == EXPIRED[:1]
    assert run.tick(utc("2028-09-14 16:00")) == []
    assert run.tick(utc("2028-09-15 16:00")) == ["checkup 2 due"]


def test_no_midnight_on_the_day_of_the_change() -> None:
    run = Run(machine(delivered_on="2024-10-25", time_zone="Africa/Cairo"), at=utc("2024-11-01"))
    before = run.state.maintenance.warranty[0].ends_at
    assert before == utc("2026-04-25 21:00"), "26 April 2026, 00:00 in Cairo (summer time since the 24th)"
    run.give(Tick(before))
    assert "warranty machine expired" in run.words


@pytest.mark.parametrize(
    ("limit_h", "moves"), [pytest.param(3_000, True, id="at the limit"), pytest.param(2_999.99, False, id="just under")]
)
def test_a_late_reading_that_shows_an_earlier_end_moves_the_later_check_ups(limit_h: float, moves: bool) -> None:
    """The end was noticed by the calendar on 15 September (UTC); the hours had run out on 1 September."""
    run = Run(machine(delivered_on="2026-03-15"))
    run.read(reading(utc("2026-03-20"), 10))
    run.give(decision("replaced", utc("2026-03-21")))
    run.read(reading(utc("2026-03-21"), 1_010), reading(utc("2027-09-20"), engine_running=True))
    assert run.state.maintenance.checkups.next_at == utc("2028-09-15 16:00")
    run.read(reading(utc("2027-09-01 03:00"), limit_h + 1_000))
    assert run.state.maintenance.checkups.next_at == utc("2028-08-31 16:00" if moves else "2028-09-15 16:00")
    run.read(reading(utc("2027-09-10 03:00"), 4_000.05))
    assert run.state.maintenance.checkups.next_at == utc("2028-08-31 16:00" if moves else "2028-09-09 16:00")
    run.read(reading(utc("2027-08-25 03:00"), 3_999.99), reading(utc("2027-08-26 03:00"), 4_000.0))
    assert run.state.maintenance.checkups.next_at == utc("2028-08-25 16:00"), "an end that is earlier still"
    assert run.words.count("checkup 1 due") == 1


@pytest.mark.parametrize(
    ("ended", "in_time", "behind"),
    [
        pytest.param("2025-01-15 16:00", [1, 3], [1, 2, 3], id="a year before the registration: 2 is settled"),
        pytest.param("2025-01-16 16:00", [1, 2, 3], [1, 2, 3], id="a day less: 2 is due"),
    ],
)
def test_the_one_place_where_the_order_of_arrival_still_shows(
    ended: str, in_time: list[int], behind: list[int]
) -> None:
    """ADR 0014. Registered on 16 January 2026 (in China), and a reading of a year before ended W1. Where that one comes
    behind a reading of December 2025, check-up 2 was due in December 2026, and that cannot be taken back.
    """
    registered_at = utc("2026-01-15 18:00")
    old, newer = reading(utc(ended), 3_000, received_at=utc("2027-03-01")), reading(utc("2025-12-20 03:00"), 3_100)
    latest = reading(utc("2027-02-20"), 3_200)
    for arrived, numbers in (((old, newer, latest), in_time), ((newer, latest, old), behind)):
        run = Run(machine(), at=registered_at)
        run.read(*arrived)
        assert sorted(one for one in run.words if one.startswith("checkup")) == [f"checkup {n} due" for n in numbers]
        assert run.words.count("warranty machine expired") == 1
