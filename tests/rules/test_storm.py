"""The cap of 20 openings in 24 h: swallowed ones are counted, critical ones are told, the storm clears by the clock."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_svc.telemetry import Fault, Lamp, MachineStatus, Reading, Sensors
from tests.rules.budget import budget
from tests.rules.machines import Run, anomaly_data, policy, reading, utc

T0 = utc("2026-11-22 04:20:31")


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def code(minutes: float, spn: int, *, critical: bool = False) -> Reading:
    """A code of an address of its own, so that each stays open and none is cleared."""
    fault = Fault(spn, 0 if critical else 3, 1, spn % 256, Lamp.RED_STOP if critical else Lamp.NONE)
    return reading(at(minutes), faults=(fault,))


def stormy() -> Run:
    run = Run()
    assert len(run.read(*(code(n, 1 + n) for n in range(20)))) == 20
    return run


def test_the_21st_opening_makes_a_storm_instead() -> None:
    run = stormy()
    assert run.read(code(20, 21), code(21, 22)) == ["storm 2026-11-22T04:40:31.000Z opened"]
    event = run.events[-1]
    assert event.time == at(20)
    data = anomaly_data(event)
    assert (data.kind, data.rule, data.severity) == ("storm", "storm", "warning")
    assert run.state.storm.swallowed == 2


def test_the_id_is_the_contracts() -> None:
    run = Run()
    run.read(*(code(n - 20, 1 + n) for n in range(21)))
    assert str(run.events[-1].id) == "644b2ce4-7ff4-54dc-a987-48044e55a6e7"


def test_critical_ones_are_told_and_count() -> None:
    run = stormy()
    assert run.read(code(20, 21, critical=True)) == ["fault 21/0/21 opened"], "no storm yet: nothing was swallowed"
    assert run.read(code(21, 22)) == ["storm 2026-11-22T04:41:31.000Z opened"]


def test_an_untold_episode_shows_only_when_it_becomes_critical() -> None:
    run = stormy()
    run.read(code(20, 21))
    major = Fault(21, 3, 1, 21, Lamp.RED_STOP)
    assert run.read(reading(at(21), faults=(major,))) == []
    codes = Fault(98, 3, 1, 22), Fault(98, 3, 1, 22, Lamp.RED_STOP)
    assert run.read(reading(at(22), faults=codes[:1])) == []
    assert run.read(reading(at(23), faults=codes[1:])) == ["fault 98/3/22 opened"]
    event = run.events[-1]
    assert (event.subject, event.time) == ("98/3/22@2026-11-22T04:42:31.000Z", at(23))
    assert anomaly_data(event).severity == "critical"
    cleared = [reading(at(minutes), faults=(Fault(0, 0, 1, address),)) for address in (21, 22) for minutes in (30, 32)]
    assert run.read(*cleared) == ["fault 98/3/22 cleared"], "the one that never showed ends without a word"


def test_it_is_over_when_the_last_24_h_hold_20_or_fewer() -> None:
    run = stormy()
    run.read(code(20, 21), code(21, 22))
    over_at = at(1 + 24 * 60)
    assert run.state.next_check_at == over_at, "then the openings of minutes 2 … 21 are left: 20"
    assert run.tick(over_at - timedelta(seconds=1)) == []
    assert run.tick(over_at) == ["storm 2026-11-22T04:40:31.000Z cleared"]
    assert run.events[-1].time == over_at
    assert anomaly_data(run.events[-1]).measured == {"swallowed": 2}
    assert run.state.next_check_at is None


def test_what_opens_after_the_storm_is_told_and_a_new_storm_is_another_one() -> None:
    run = stormy()
    run.read(code(20, 21))
    assert run.read(code(24 * 60 + 1, 30)) == ["storm 2026-11-22T04:40:31.000Z cleared", "fault 30/3/30 opened"]
    assert run.events[-2].time == at(24 * 60)
    assert run.read(code(24 * 60 + 1.5, 31)) == ["storm 2026-11-23T04:22:01.000Z opened"]


def test_a_critical_one_during_the_storm_is_told_and_counts_for_its_end() -> None:
    run = stormy()
    run.read(code(20, 21))
    assert run.state.next_check_at == at(24 * 60), "then those of minutes 1 … 20 are left: 20"
    assert run.read(code(21, 22, critical=True)) == ["fault 22/0/22 opened"]
    assert run.state.next_check_at == at(24 * 60 + 1)


def test_it_is_named_by_the_reading_that_decided_the_first_one_untold() -> None:
    """Of a sensor that is not the one that began the run."""
    run = stormy()
    low = Sensors(battery_v=22.0)
    assert run.read(reading(at(20), sensors=low)) == []
    assert run.read(reading(at(30), sensors=low)) == ["storm 2026-11-22T04:50:31.000Z opened"]


def test_what_is_remembered_is_bounded_and_forgotten_afterwards() -> None:
    run = stormy()
    run.read(*(code(20 + n, 21 + n) for n in range(9)))
    assert run.state.storm.times == tuple(at(n) for n in range(8, 29)), "one more than the cap"
    assert (run.state.storm.swallowed, len(run.state.storm.untold)) == (9, 9)
    run.tick(at(24 * 60 + 8))
    assert (run.state.storm.swallowed, run.state.storm.opened_at) == (0, None)


def test_a_retired_machine_has_no_storm_and_the_next_one_is_another() -> None:
    run = stormy()
    run.read(code(20, 21))
    assert run.change(at(21), status=MachineStatus.RETIRED) == []
    assert (run.state.storm.untold, run.state.storm.swallowed, run.state.next_check_at) == ((), 0, None)
    assert run.change(at(22)) == []
    assert run.state.next_check_at is None
    assert run.read(code(23, 24)) == ["storm 2026-11-22T04:43:31.000Z opened"], "20 openings lie in the last 24 h"


def test_a_cap_raised_during_a_storm_lets_it_end_24_h_after_the_last_opening() -> None:
    run = stormy()
    run.read(code(20, 21))
    run.rules = replace(policy(), storm=replace(policy().storm, openings=22))
    assert run.read(code(30, 22)) == ["fault 22/3/22 opened"], "the 22nd"
    assert run.state.next_check_at == at(24 * 60 + 30)


def test_switched_off_everything_is_told() -> None:
    run = Run(policy=replace(policy(), storm=replace(policy().storm, enabled=False)))
    assert len(run.read(*(code(n, 1 + n) for n in range(25)))) == 25


def test_24_h_are_a_sliding_window() -> None:
    run = Run()
    found = run.read(*(code(80 * n, 1 + n) for n in range(60)))
    assert len(found) == 60, "18 or 19 in any 24 h: no storm"


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 30, 70, 400, 1_440]), st.booleans(), st.integers(0, 60)),
        min_size=1,
        max_size=90,
    )
)
@budget(60)
def test_never_more_than_20_told_in_24_h_and_storms_begin_and_end_alternately(
    drawn: list[tuple[int, bool, int]],
) -> None:
    """Pauses in minutes, critical or not, and the code; each code has an address of its own and never ends."""
    minutes, run = 0, Run()
    for pause, critical, spn in drawn:
        minutes += pause
        run.tick(at(minutes))
        run.read(code(minutes, 1 + spn, critical=critical))
    told = [event for event in run.events if event.rule == "fault" and event.stage == "opened"]
    general = [event.time for event in told if anomaly_data(event).severity != "critical"]
    for last in general:
        assert sum(1 for one in general if last - timedelta(hours=24) < one <= last) <= 20
    storms = [event.stage for event in run.events if event.rule == "storm"]
    assert storms == [("opened", "cleared")[n % 2] for n in range(len(storms))]
    run.tick(at(minutes + 24 * 60))
    assert sum(1 for event in run.events if event.rule == "storm") % 2 == 0, "every storm ends"
