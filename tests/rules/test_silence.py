"""Silence by the broker's clock: 72 h after the last ping of an active machine that used to report."""

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from telemetry_svc.rules import step
from telemetry_svc.telemetry import MachineStatus, Reading, Tick
from tests.rules.machines import Run, anomaly_data, machine, policy, reading, utc

T0 = utc("2026-11-22 04:20:31")
OPENED, CLEARED = "silence {} opened", "silence {} cleared"


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def ping(hours: float, recorded: float | None = None) -> Reading:
    """Received at that hour; recorded then, or at another one."""
    return reading(at(hours if recorded is None else recorded), engine_running=True, received_at=at(hours))


def heard(*hours: float) -> Run:
    run = Run()
    assert run.read(*(ping(hour) for hour in hours)) == []
    return run


@pytest.mark.parametrize(
    ("hours", "silent"),
    [
        pytest.param((0, 36, 72), True, id="three pings over 72 h"),
        pytest.param((0, 36, 71.999), False, id="over a little less"),
        pytest.param((0, 72), False, id="two pings"),
        pytest.param((0, 1, 2, 80), True, id="four pings over 80 h"),
        pytest.param((), False, id="never heard from"),
    ],
)
def test_who_can_be_silent(hours: tuple[float, ...], silent: bool) -> None:
    run = heard(*hours)
    assert len(run.tick(at(1_000))) == (1 if silent else 0)
    assert run.tick(at(2_000)) == [], "one silence, not two"


def test_72_h_after_the_last_ping_and_not_before() -> None:
    run = heard(0, 36, 72, 100)
    assert run.tick(at(171.999)) == []
    assert run.tick(at(172)) == ["silence 2026-11-26T08:20:31.000Z opened"]
    event = run.events[0]
    assert event.time == at(172)
    assert anomaly_data(event).recorded_at == at(100)
    assert anomaly_data(event).severity == "warning"
    assert anomaly_data(event).measured == {"silent_h": 72.0}
    assert run.read(ping(180)) == ["silence 2026-11-26T08:20:31.000Z cleared"]
    assert run.events[1].time == at(180)
    assert anomaly_data(run.events[1]).measured == {"silent_h": 80.0}
    assert run.tick(at(251.999)) == []
    assert run.tick(at(252)) == ["silence 2026-11-29T16:20:31.000Z opened"]


def test_the_id_is_the_contracts() -> None:
    run = heard(-72, -36, 0)
    run.tick(at(72))
    assert str(run.events[0].id) == "8f63d66d-2fc1-5da9-8897-6919e3b84203"


@pytest.mark.parametrize(
    "recorded",
    [pytest.param(10, id="late"), pytest.param(300, id="future"), pytest.param(170, id="in time")],
)
def test_any_new_ping_ends_it(recorded: float) -> None:
    run = heard(0, 36, 72)
    run.tick(at(144))
    assert run.read(ping(170, recorded)) == ["silence 2026-11-25T04:20:31.000Z cleared"]
    assert run.events[-1].time == at(170)
    assert run.tick(at(241.9)) == []
    assert len(run.tick(at(242))) == 1


@pytest.mark.parametrize("recorded", [pytest.param(0, id="late"), pytest.param(400, id="future")])
def test_any_new_ping_postpones_it(recorded: float) -> None:
    run = heard(0, 36, 72)
    run.read(ping(140, recorded))
    assert run.tick(at(211.9)) == []
    opened = run.tick(at(212))
    assert opened == [f"silence {at(recorded):%Y-%m-%dT%H:%M:%S}.000Z opened"]


def test_the_device_clock_has_no_say() -> None:
    run = heard(0, 36, 72)
    assert run.read(ping(73, 500), ping(74, 74)) == []
    assert run.tick(at(145.9)) == []


@pytest.mark.parametrize("status", [MachineStatus.STORED, MachineStatus.RETIRED])
def test_stored_and_retired_machines_are_not_silent_and_counting_begins_anew(
    status: MachineStatus,
) -> None:
    run = heard(0, 36, 72)
    run.tick(at(144))
    assert run.change(at(150), status=status) == [], "an open silence ends without an event"
    assert run.state.next_check_at is None
    assert run.tick(at(500)) == []
    assert run.change(at(600)) == []
    assert run.tick(at(671.999)) == []
    assert run.tick(at(672)) == ["silence 2026-11-25T04:20:31.000Z opened"]
    assert run.events[-1].time == at(672)


def test_other_changes_of_the_registration_leave_it_alone() -> None:
    run = heard(0, 36, 72)
    assert run.change(at(100), customer_id="C-2") == []
    assert len(run.tick(at(144))) == 1


def test_an_ordinary_ping_leaves_the_next_check_where_it_is() -> None:
    run = heard(0, 36, 72)
    before = run.state.next_check_at
    assert before == at(144)
    run.read(ping(100))
    assert run.state.next_check_at == before
    assert run.tick(at(144)) == []
    assert run.state.next_check_at == at(172)


def test_how_long_it_was_is_told_in_hundredths_of_an_hour() -> None:
    run = heard(0, 36, 72)
    run.tick(at(144))
    run.read(ping(150.126))
    assert anomaly_data(run.events[-1]).measured == {"silent_h": 78.13}


def test_a_ping_taken_up_again_after_others_is_not_the_last_one() -> None:
    """A dead letter that was retried: received before the last ping."""
    run = heard(0, 36, 72)
    assert run.read(ping(50)) == []
    assert (run.state.silence.last_received_at, run.state.silence.last_recorded_at) == (at(72), at(72))
    assert run.state.next_check_at == at(144)
    run.read(ping(100), ping(99))
    assert run.state.next_check_at == at(144), "left where it is, as by any ping"
    assert run.tick(at(171.9)) == []
    assert run.tick(at(172)) == ["silence 2026-11-26T08:20:31.000Z opened"]


def test_a_ping_taken_up_again_counts_but_does_not_end_a_silence() -> None:
    """It came before the silence; told as its end, the same silence could not be told again."""
    run = heard(0, 72)
    assert run.read(ping(36)) == []
    assert run.tick(at(144)) == ["silence 2026-11-25T04:20:31.000Z opened"]
    assert run.read(ping(71)) == []
    assert run.tick(at(1_000)) == []
    assert run.read(ping(1_001)) == ["silence 2026-11-25T04:20:31.000Z cleared"]
    assert run.tick(at(1_073)) == ["silence 2027-01-02T21:20:31.000Z opened"]


@pytest.mark.parametrize(
    ("hours", "ends"),
    [
        pytest.param(71.99, False, id="received before the last ping"),
        pytest.param(72.01, True, id="after it, and before the silence began"),
        pytest.param(144.01, True, id="after the silence began"),
    ],
)
def test_a_ping_taken_up_again_ends_a_silence_where_none_was_received_later(hours: float, ends: bool) -> None:
    """It is the next new ping after the last one, however late it is decided; the time is when it was received."""
    run = heard(0, 36, 72)
    opened, cleared = (which.format("2026-11-25T04:20:31.000Z") for which in (OPENED, CLEARED))
    assert run.tick(at(400)) == [opened]
    assert run.read(ping(hours)) == ([cleared] if ends else [])
    assert [event.time for event in run.events] == ([at(144), at(hours)] if ends else [at(144)])
    assert len(run.tick(at(401))) == (1 if ends else 0), "counted anew from that ping"


def test_no_more_pings_are_counted_than_are_asked_for() -> None:
    run = heard(*range(10))
    assert run.state.silence.pings == 3
    assert run.state.silence.first_received_at == at(0)


def test_a_rule_that_is_switched_off_says_nothing() -> None:
    off = replace(policy(), silence=replace(policy().silence, enabled=False))
    run = Run(policy=off)
    run.read(*(ping(hour) for hour in (0, 36, 72)))
    assert run.state.next_check_at is None
    waiting = heard(0, 36, 72)
    assert step(off, waiting.state, Tick(at(144))).events == ()


def test_stored_from_the_first_ping_on_then_active() -> None:
    run = heard(0, 36)
    run.change(at(40), status=MachineStatus.STORED)
    run.read(ping(72))
    assert run.state.next_check_at is None
    run.change(at(80))
    assert run.state.next_check_at == at(152), "counted from the change"
    run.read(ping(90))
    assert run.tick(at(161.9)) == []
    assert len(run.tick(at(162))) == 1


def test_from_stored_to_retired_changes_nothing() -> None:
    run = heard(0, 36, 72)
    run.change(at(100), status=MachineStatus.STORED)
    run.change(at(101), status=MachineStatus.RETIRED)
    assert (run.state.next_check_at, run.state.silence.counts_from) == (None, None)


def test_a_stored_machine_that_sends_ends_no_silence() -> None:
    run = heard(0, 36, 72)
    run.tick(at(144))
    run.change(at(150), status=MachineStatus.STORED)
    assert run.read(ping(160)) == []


def test_a_machine_stored_before_it_was_silent_waits_for_nothing() -> None:
    run = heard(0, 36, 72)
    run.change(at(100), status=MachineStatus.STORED)
    assert run.state.next_check_at is None
    assert run.give(Tick(at(500))) == []


def test_another_clock_that_comes_due_makes_no_silence_of_two_pings() -> None:
    run = Run(machine(delivered_on="2025-06-01"), at=utc("2026-11-01"))
    run.read(ping(0), ping(100))
    assert run.tick(utc("2026-12-01 16:00")) == ["warranty machine expired", "checkup 1 due"]


def test_a_ping_that_came_before_the_change_is_no_later_than_it() -> None:
    """No order is promised between pings and commands."""
    run = heard(0, 36, 72)
    run.change(at(80), status=MachineStatus.STORED)
    run.change(at(100))
    assert run.read(ping(90)) == []
    assert run.tick(at(171.9)) == []
    assert len(run.tick(at(172))) == 1
    unheard = Run(machine(status=MachineStatus.STORED))
    unheard.change(at(200), status=MachineStatus.ACTIVE)
    unheard.read(ping(90))
    assert unheard.state.silence.last_recorded_at == at(90)
    unheard.read(ping(130), ping(170))
    assert unheard.state.next_check_at == at(272)


def test_of_two_pings_received_at_once_the_second_is_the_last() -> None:
    run = heard(0, 36, 72)
    run.read(ping(72, 71.5))
    assert run.tick(at(144)) == ["silence 2026-11-25T03:50:31.000Z opened"]
    run.read(ping(145))
    run.tick(at(217))
    assert len(run.read(ping(217))) == 1
