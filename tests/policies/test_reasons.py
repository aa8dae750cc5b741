"""Every kind of fact can tell why it was decided, in both languages."""

from datetime import timedelta

import pytest

from telemetry_svc.policies import LANGUAGES, Language, why
from telemetry_svc.telemetry import Fault, Lamp, PermittedHours, Position, Sensors
from tests.rules.machines import Run, decision, done, machine, policy, reading, utc

AT = utc("2026-11-22 04:20:31")


def test_a_milestone() -> None:
    run = Run(machine(initial_h=60))
    run.read(reading(AT, 250.3))
    assert why(policy(), run.one("inspection 250 due")) == (
        "The inspection at 250 h is due, as of 2026-11-22 04:20:31 UTC.",
        "The reading of 2026-11-22 04:20:31 UTC decided it: hour_meter_h = 250.3, true_hours_h = 250.3.",
        "I1: Twelve inspections by hours remind the customer before they fall due, when they fall due and when they are"
        " overdue.",
        f"Edition zoomlion-2011-rev1, file {policy().digest[:12]}.",
    )


def test_the_calendar() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    run.tick(utc("2027-10-01"))
    lines = why(policy(), run.one("warranty machine expired"), "zh-CN")
    assert lines[:2] == ("整机三包已到期，时间为 2027-09-15 16:00:00 UTC。", "由日历决定，无需读数。")  # noqa: RUF001
    assert lines[2].startswith("W1: 整机自交付之日起")


def test_a_fault_tells_its_code_and_both_readings() -> None:
    run = Run()
    run.read(reading(AT, faults=(Fault(110, 3),)))
    run.read(reading(AT + timedelta(seconds=5), faults=(Fault(110, 3, 2, 0, Lamp.RED_STOP),)))
    lines = why(policy(), run.one("fault 110/3/0 worsened-critical"))
    assert lines[0].startswith("Fault code SPN 110 FMI 3, Engine Coolant Temperature: voltage above normal")
    assert "(critical) became more severe" in lines[0]
    assert lines[1] == "It began with the reading of 2026-11-22 04:20:31 UTC."
    assert lines[2] == "The reading of 2026-11-22 04:20:36 UTC decided it: occurrence_count = 2."
    assert [line.split(":")[0] for line in lines[3:5]] == ["R1", "fault_code"]


def test_what_time_or_an_operator_decided_names_no_reading_that_did() -> None:
    run = Run(machine(initial_h=100))
    for minutes in (0, 1, 5 * 24 * 60):
        run.read(reading(AT + timedelta(minutes=minutes), 100.0))
    run.read(reading(AT + timedelta(days=5, hours=1), 260.0))
    run.give(decision("reject", AT + timedelta(days=6)))
    run.tick(AT + timedelta(days=9))
    last = "No reading decided it; the last one was that of 2026-11-27 05:20:31 UTC"
    rejected, silent = (why(policy(), run.one(word)) for word in told_without_a_reading(run))
    assert [line for line in rejected if line.startswith("No reading")] == [
        f"{last}: hour_meter_h = 260.0, expected_hours_h = 100.0, true_hours_h = 100.0."
    ]
    assert [line for line in silent if line.startswith("No reading")] == [f"{last}: silent_h = 72.0."]
    run.read(reading(AT + timedelta(days=10), 101.0))
    (back,) = [event for event in run.events if (event.rule, event.stage) == ("silence", "cleared")]
    assert why(policy(), back)[2].startswith("The reading of 2026-12-02 04:20:31 UTC decided it: silent_h = ")


def told_without_a_reading(run: Run) -> list[str]:
    return [word for word in run.words if word.endswith("cleared") or word.startswith("silence")]


def everything() -> Run:
    """A life in which every kind of fact comes up."""
    run = Run(machine(permitted_hours=(PermittedHours(("mon",), "08:00", "18:00"),)))
    hour = timedelta(hours=1)
    bad = Sensors(120, 10, 1, 20)
    monday = AT - timedelta(days=6)
    run.read(reading(monday, 10, position=Position(28.0, 112.0), engine_running=True))
    run.read(reading(AT, 45, position=Position(28.9, 112.0), sensors=bad, engine_running=True))
    run.read(reading(AT + hour / 60, position=Position(40.0, 112.0), faults=(Fault(1, 2),)))
    run.read(reading(AT + hour, 7_000, sensors=bad))
    run.read(reading(AT + 100 * hour, 150, sensors=bad))
    run.tick(AT + 200 * hour)
    run.give(done(500, AT + 201 * hour), done(None, AT + 202 * hour, checkup_no=1))
    run.read(reading(AT + 9_000 * hour, 7_000, faults=tuple(Fault(n, 3) for n in range(1, 30))))
    return run


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fact_has_its_story(language: Language) -> None:
    run = everything()
    rules = {event.rule if event.rule != "position" else event.subject.split("@")[0] for event in run.events}
    assert rules >= {"inspection", "warranty", "checkup", "fault", "hour_meter", "silence", "sensor", "storm", "speed"}
    for event in run.events:
        lines = why(policy(), event, language)
        assert len(lines) >= 4
        assert all(line.strip() and line[-1] in ".。" for line in lines)
        assert all(line.isascii() for line in lines) is (language == "en")
