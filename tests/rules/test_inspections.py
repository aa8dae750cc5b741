"""I1 and I2 at both sides of every threshold, each case asserting that nothing else happened."""

from uuid import UUID

import pytest
from msgspec.structs import replace

from telemetry_svc.events import EventId, Evidence
from telemetry_svc.rules.inspections import NEVER_CH, FreeBracket, InspectionsState, is_free, next_hours_ch
from telemetry_svc.rules.usage import UsageState
from telemetry_svc.telemetry import MachineStatus
from tests.rules.machines import (
    REGISTERED_AT,
    TEXT_EDITION,
    Run,
    ch,
    done,
    due_data,
    machine,
    policy,
    reading,
    registration,
    utc,
)

AT = utc("2026-11-22 04:20:31")
LATER = utc("2026-11-23 04:20:31")


@pytest.mark.parametrize(
    ("initial_h", "hours_h", "wanted"),
    [
        pytest.param(0, 39.99, [], id="first lead is 10 h: not yet"),
        pytest.param(0, 40.00, ["inspection 50 upcoming"], id="first lead is 10 h"),
        pytest.param(0, 49.99, ["inspection 50 upcoming"], id="a hundredth short of due"),
        pytest.param(0, 50.00, ["inspection 50 due"], id="due at the milestone, no upcoming any more"),
        pytest.param(0, 99.99, ["inspection 50 due"], id="a hundredth short of overdue"),
        pytest.param(0, 100.00, ["inspection 50 due", "inspection 50 overdue"], id="overdue 50 h past"),
        pytest.param(60, 199.99, [], id="lead of the others is 50 h: not yet"),
        pytest.param(60, 200.00, ["inspection 250 upcoming"], id="lead of the others is 50 h"),
        pytest.param(60, 249.99, ["inspection 250 upcoming"], id="249.99 is not 250"),
        pytest.param(60, 250.00, ["inspection 250 due"], id="250.00 is"),
        pytest.param(49.99, 49.99, ["inspection 50 upcoming"], id="a lead by hours waits for a reading"),
        pytest.param(50.00, 120, [], id="what the registration shows as past is settled, overdue too"),
        pytest.param(9_500, 9_949.99, [], id="before the last lead"),
        pytest.param(9_500, 10_050.0, ["inspection 10000 due", "inspection 10000 overdue"], id="the last milestone"),
        pytest.param(10_000, 200_000, [], id="nothing after the last one"),
    ],
)
def test_stages_by_hours(initial_h: float, hours_h: float, wanted: list[str]) -> None:
    run = Run(machine(initial_h=initial_h))
    found = run.read(reading(AT, hours_h))
    assert [one for one in found if one.startswith("inspection")] == wanted


def test_each_stage_once_in_a_life() -> None:
    run = Run()
    assert run.read(reading(AT, 40), reading(AT, 40)) == ["inspection 50 upcoming"]
    assert run.read(reading(LATER, 50), reading(LATER, 50)) == ["inspection 50 due"]
    assert run.read(reading(utc("2026-11-27"), 100)) == ["inspection 50 overdue"]
    assert run.read(reading(utc("2026-11-28"), 101), reading(LATER, 60)) == []


def test_the_id_is_the_contracts() -> None:
    run = Run(machine(initial_h=60))
    run.read(reading(AT, 250))
    event = run.one("inspection 250 due")
    assert event.id == EventId(UUID("e59ca73e-d80d-5236-a163-2bc15288643e"))
    assert event.type == "excavator.maintenance_due.v1"
    assert event.time == AT
    data = due_data(event)
    assert (data.kind, data.stage, data.milestone_h, data.coverage) == ("inspection", "due", 250, None)
    assert (data.true_hours_h, data.recorded_at, data.policy_clause) == (250.0, AT, "I1")
    assert data.forecast_due_at is None, "it is here"
    assert data.policy_digest == policy().digest
    assert len(data.policy_digest) == 64
    assert event.evidence == (Evidence(AT, {"hour_meter_h": 250.0, "true_hours_h": 250.0}),)


def test_from_upcoming_past_the_grace_at_once() -> None:
    run = Run()
    assert run.read(reading(AT, 45)) == ["inspection 50 upcoming"]
    assert run.read(reading(utc("2026-11-27"), 100)) == ["inspection 50 due", "inspection 50 overdue"]


def test_the_next_hours_are_those_of_the_next_stage() -> None:
    """What an ordinary reading is compared with: too low costs time, too high a promise."""
    run = Run()
    days = [utc(f"2026-{month:02}-01") for month in range(5, 10)]
    levels = []
    for day, hours_h in zip(days, (0, 40, 50, 100, 200), strict=True):
        run.read(reading(day, hours_h))
        levels.append(run.state.maintenance.next_hours_ch)
    assert levels == [4_000, 5_000, 10_000, 20_000, 25_000]
    assert next_hours_ch(policy().inspections, InspectionsState(), UsageState()) == NEVER_CH


def test_free_brackets_end_below_their_upper_limit() -> None:
    block = replace(policy().inspections, free=(FreeBracket(0, True, below_t=20), FreeBracket(20, False)))
    assert [is_free(block, tonnage_t) for tonnage_t in (0.5, 19.99, 20, 36)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("edition", "tonnage_t", "is_free"),
    [
        pytest.param(TEXT_EDITION, 19.9, False, id="under 20 t pays in the text edition"),
        pytest.param(TEXT_EDITION, 20.0, True, id="exactly 20 t is 20T以上"),
        pytest.param(TEXT_EDITION, 36.0, True, id="over 20 t"),
        pytest.param(None, 0.5, True, id="revised edition: every machine"),
    ],
)
def test_who_pays(edition: str | None, tonnage_t: float, is_free: bool) -> None:
    excavator = machine(tonnage_t, **({} if edition is None else {"policy_edition": edition}))
    run = Run(excavator)
    run.read(reading(AT, 249.0))
    run.give(done(250, LATER))
    assert {due_data(run.one(f"inspection 50 {stage}")).free_of_charge for stage in ("due", "overdue")} == {is_free}
    assert due_data(run.one("inspection 250 completed")).free_of_charge is is_free
    assert due_data(run.one("inspection 50 superseded")).free_of_charge is False


def test_done_before_it_is_due_is_settled() -> None:
    run = Run()
    run.read(reading(AT, 45))
    assert run.give(done(50, LATER)) == ["inspection 50 completed"]
    assert run.one("inspection 50 completed").time == LATER
    assert run.read(reading(utc("2026-12-01"), 150)) == []


def test_completing_one_supersedes_every_earlier_open_one_due_or_not() -> None:
    run = Run()
    run.read(reading(AT, 60))
    assert run.give(done(500, LATER)) == [
        "inspection 50 superseded",
        "inspection 250 superseded",
        "inspection 500 completed",
    ]
    assert run.read(reading(utc("2026-12-31"), 900)) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(done(50, LATER), "already settled", id="settled at registration"),
        pytest.param(done(250, LATER), "already superseded", id="superseded"),
        pytest.param(done(500, LATER), "already completed", id="completed"),
        pytest.param(done(300, LATER), "no inspection at 300 h", id="unknown milestone"),
        pytest.param(done(None, LATER, checkup_no=2), "beyond the next one", id="check-up after the next one"),
        pytest.param(done(None, LATER), "already settled", id="neither an inspection nor a check-up"),
    ],
)
def test_refused_with_its_reason_and_without_effect(given: object, reason: str) -> None:
    run = Run(machine(initial_h=50))
    run.give(done(500, AT))
    before = run.state
    assert run.give(given) == []  # type: ignore[arg-type]
    assert run.last.rejected is not None
    assert reason in run.last.rejected
    assert run.state == before


def test_a_change_of_initial_hours_settles_what_it_puts_into_the_past() -> None:
    run = Run()
    run.read(reading(AT, 60))
    assert run.change(LATER, initial_ch=60_000) == []
    assert run.read(reading(utc("2026-11-24"), 70)) == []
    assert run.read(reading(utc("2026-12-24"), 300)) == [], "250 and the overdue 50 lie in the past the change told of"
    assert run.give(done(50, utc("2026-12-25"))) == ["inspection 50 completed"], "what was announced stays open"


@pytest.mark.parametrize(
    ("initial_h", "wanted"),
    [
        pytest.param(99.99, ["inspection 50 overdue"], id="a hundredth short of overdue"),
        pytest.param(100.00, [], id="overdue lies in the past, too"),
    ],
)
def test_a_change_of_initial_hours_settles_the_overdue_of_what_is_due(initial_h: float, wanted: list[str]) -> None:
    run = Run()
    run.read(reading(AT, 60))
    assert run.change(LATER, initial_ch=ch(initial_h)) == []
    assert run.read(reading(utc("2026-11-25"), 100.5)) == wanted


def test_a_change_of_initial_hours_settles_what_was_upcoming() -> None:
    run = Run()
    assert run.read(reading(AT, 45)) == ["inspection 50 upcoming"]
    assert run.change(LATER, initial_ch=ch(50)) == []
    assert run.read(reading(utc("2026-11-25"), 101)) == []


def test_quiet_settles_what_the_first_reading_shows_and_nothing_later() -> None:
    run = Run(quiet=True)
    assert run.read(reading(AT, 1_008.37)) == []
    assert run.read(reading(utc("2026-11-25"), 1_060)) == []
    assert run.give(done(1000, LATER)) == []
    assert run.last.rejected == "the inspection at 1000 h is already settled"
    assert run.read(reading(utc("2026-12-23"), 1_500)) == ["inspection 1500 due"]


def test_retired_has_no_events_and_what_was_passed_meanwhile_is_settled() -> None:
    run = Run()
    run.read(reading(AT, 60))
    run.change(LATER, status=MachineStatus.RETIRED)
    assert run.state.next_check_at is None
    assert run.read(reading(utc("2026-12-10"), 300)) == []
    assert run.give(done(50, LATER)) == []
    assert run.last.rejected == "the machine is retired"
    assert run.change(utc("2026-12-11")) == []
    assert run.read(reading(utc("2026-12-12"), 310)) == []
    assert run.read(reading(utc("2026-12-23"), 500)) == ["inspection 500 due"]
    assert run.give(done(50, LATER)) == ["inspection 50 completed"]


def test_another_edition_is_refused() -> None:
    run = Run()
    assert run.give(registration(machine(policy_edition=TEXT_EDITION), REGISTERED_AT)) == []
    assert run.last.rejected is not None
    assert "for good" in run.last.rejected
    assert run.state.machine.policy_edition == policy().edition


def test_late_future_and_suspect_readings_raise_nothing() -> None:
    run = Run()
    run.read(reading(AT, 30))
    assert run.read(reading(utc("2026-11-20"), 29)) == [], "late"
    future = reading(utc("2026-11-24"), 60, received_at=AT)
    assert future.future
    assert run.read(future) == []
    assert run.state.newest_recorded_at == utc("2026-11-24")
    assert run.state.latest_recorded_at == AT
    assert run.state.meter.true_ch == 3_000


def test_a_late_reading_that_agrees_and_stands_above_counts() -> None:
    run = Run()
    run.read(reading(AT, 49.95))
    assert run.read(reading(utc("2026-11-22 04:10:00"), 50.02)) == ["inspection 50 due"]
    assert run.one("inspection 50 due").time == utc("2026-11-22 04:10:00")
