"""The order of things in a step: whose time an event has, what time alone decides, what a retired machine remembers."""

from datetime import datetime, timedelta

import pytest

from telemetry_svc.rules import step
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import Fault, MachineStatus, PermittedHours, Position, Tick
from tests.rules.machines import Run, anomaly_data, machine, policy, reading, utc

T0 = utc("2026-11-22 04:20:31")
MONDAYS = (PermittedHours(("mon",), "08:00", "18:00"),)


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def test_a_machine_begins_with_its_registration() -> None:
    with pytest.raises(TypeError, match="begins with its registration, not with a Tick"):
        step(policy(), None, Tick(T0))


def test_a_tick_that_nobody_waited_for_does_nothing() -> None:
    run = Run()
    before = run.state
    assert run.give(Tick(T0)) == []
    assert run.state == before
    waiting = Run(machine(delivered_on="2026-03-15"))
    before = waiting.state
    assert waiting.give(Tick(utc("2027-08-15 15:59:59"))) == []
    assert waiting.state == before


def test_newest_and_latest_reading() -> None:
    run = Run()
    run.read(reading(at(2), 5))
    assert (run.state.newest_recorded_at, run.state.latest_recorded_at) == (at(2), at(2))
    run.read(reading(at(1), 4))
    assert (run.state.newest_recorded_at, run.state.latest_recorded_at) == (at(2), at(2))
    run.read(reading(at(9), 6, received_at=at(3)))
    assert (run.state.newest_recorded_at, run.state.latest_recorded_at) == (at(9), at(2)), "future"


def test_an_event_tells_of_the_reading_that_decided_it_not_of_the_latest() -> None:
    run = Run()
    run.read(reading(at(2), faults=()), reading(at(3), 5))
    run.read(reading(at(2.5), faults=(Fault(110, 0),)))
    (event,) = run.events
    assert (event.time, anomaly_data(event).recorded_at) == (at(2.5), at(2.5))
    assert [one.recorded_at for one in event.evidence] == [at(2.5)]


@pytest.mark.parametrize("recorded", [pytest.param(10, id="late"), pytest.param(300, id="future")])
def test_the_end_of_a_silence_tells_of_the_ping_that_ended_it(recorded: float) -> None:
    run = Run()
    run.read(*(reading(at(hours), 5, received_at=at(hours)) for hours in (0, 36, 72)))
    run.tick(at(144))
    run.read(reading(at(recorded), 5, received_at=at(170)))
    opened, cleared = run.events
    assert [one.recorded_at for one in opened.evidence] == [at(72)]
    assert anomaly_data(cleared).recorded_at == at(recorded)
    assert [one.recorded_at for one in cleared.evidence] == [at(72), at(recorded)]
    assert cleared.time == at(170)


def test_a_reading_that_finds_an_end_by_the_calendar_finds_no_silence() -> None:
    """The clock of a silence is the broker's alone."""
    run = Run(machine(delivered_on="2026-03-15", initial_h=2_600))
    run.read(*(reading(utc(f"2027-09-0{day}"), 2_605) for day in (1, 5, 9)))
    assert run.read(reading(utc("2027-09-20"), 2_605)) == ["warranty machine expired", "checkup 1 due"]


def test_what_one_late_tick_finds_comes_in_the_order_in_which_it_became_true() -> None:
    run = Run(machine(permitted_hours=MONDAYS))
    monday, tuesday = utc("2026-11-23 02:00"), utc("2026-11-24 02:00")
    here, there = Position(28.228, 112.939), Position(28.3, 112.939)
    run.read(*(reading(monday - timedelta(days=7 * ago), position=here) for ago in (2, 1, 0)))
    assert run.read(reading(tuesday, position=there)) == ["position outside_hours opened"]
    assert run.tick(utc("2026-12-24")) == [
        "silence 2026-11-24T02:00:00.000Z opened",
        "position outside_hours cleared",
    ]
    assert [event.time for event in run.events[-2:]] == [utc("2026-11-27 02:00:02"), utc("2026-11-30")]


def test_a_retired_machine_remembers_its_readings_and_waits_for_nothing() -> None:
    run = Run(machine(delivered_on="2026-03-15"))
    run.read(reading(at(0), 30))
    run.change(at(1), status=MachineStatus.RETIRED)
    assert (run.state.next_check_at, run.state.wake_at) == (None, NEVER)
    assert run.read(reading(at(3), 32), reading(at(2), 31, received_at=at(3.5))) == []
    assert (run.state.newest_recorded_at, run.state.latest_recorded_at) == (at(3), at(3))
    assert run.state.meter.true_ch == 3_200
    assert run.state.silence.last_recorded_at == at(2), "received last"
    assert run.read(reading(at(9), 33, received_at=at(4))) == []
    assert (run.state.newest_recorded_at, run.state.latest_recorded_at) == (at(9), at(3))
    assert (run.state.meter.true_ch, run.state.silence.pings) == (3_200, 3)


def test_the_first_reading_of_a_machine_that_was_registered_as_retired() -> None:
    run = Run(machine(initial_h=100, status=MachineStatus.RETIRED))
    assert run.read(reading(at(0), 3)) == []
    assert run.state.meter.held is not None, "under the registered hours"
    assert run.read(reading(at(1), 110)) == []
    assert run.state.latest_recorded_at == at(1)
    assert run.state.meter.true_ch == 11_000


def test_a_policy_knows_its_clauses_by_name() -> None:
    found = policy().clause("W1")
    assert found is not None
    assert found.clause == "W1"
    assert policy().clause("W9") is None
