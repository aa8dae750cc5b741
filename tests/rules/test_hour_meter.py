"""The hour meter: band, suspects, segments and an operator's word; true hours neither fall nor leap by themselves."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from telemetry_svc.events import Evidence
from telemetry_svc.telemetry import MachineStatus, Reading
from tests.rules.machines import Run, anomaly_data, ch, decision, machine, reading, utc

T0 = utc("2026-11-22 04:20:31")


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def meter(hours: float, shown_h: float) -> Reading:
    return reading(at(hours), shown_h)


def started(shown_h: float = 110) -> Run:
    """A machine past its first inspection, settled at 60 h, so that only the meter speaks until 200 h."""
    run = Run(machine(initial_h=100))
    assert [one for one in run.read(meter(0, shown_h)) if "upcoming" not in one] == []
    return run


def true_h(run: Run) -> float:
    assert run.state.meter.true_ch is not None
    return run.state.meter.true_ch / 100


@pytest.mark.parametrize(
    ("later_h", "shown_h", "is_suspect"),
    [
        pytest.param(1, 109.90, False, id="0.10 h back is jitter"),
        pytest.param(1, 109.89, True, id="0.11 h back is a rollback"),
        pytest.param(0, 110.20, False, id="the slack of 0.2 h at once"),
        pytest.param(0, 110.21, True, id="more than the slack at once"),
        pytest.param(10, 120.70, False, id="10 h x 1.05 + 0.2 h"),
        pytest.param(10, 120.71, True, id="a hundredth more"),
        pytest.param(10, 110.00, False, id="standing still"),
        pytest.param(1, 655.35, True, id="a stuck 65 535"),
        pytest.param(1, 0.00, True, id="wrapped or reset"),
        pytest.param(1, 6_660.0, True, id="minutes for hours"),
    ],
)
def test_the_band(later_h: float, shown_h: float, is_suspect: bool) -> None:
    run = started()
    found = [one for one in run.read(meter(later_h, shown_h)) if one.startswith("hour_meter")]
    assert len(found) == (1 if is_suspect else 0)
    assert true_h(run) == (110 if is_suspect else max(110, shown_h))


@pytest.mark.parametrize(
    ("fields", "shown_h", "is_suspect"),
    [
        pytest.param({"initial_h": 100}, 99.90, False, id="0.10 h under the registered hours"),
        pytest.param({"initial_h": 100}, 99.89, True, id="0.11 h under"),
        pytest.param({}, 99_999.0, False, id="no delivery date: taken as it is"),
        pytest.param({"delivered_on": "2026-11-22"}, 62.95, False, id="50 h + 1.05 x 12 h 20 min 31 s of the day"),
        pytest.param({"delivered_on": "2026-11-22"}, 62.96, True, id="a hundredth more"),
        pytest.param({"delivered_on": "2026-12-01"}, 50.00, False, id="50 h, read before the day of delivery"),
        pytest.param({"delivered_on": "2026-12-01"}, 50.01, True, id="more than 50 h, before that day"),
        pytest.param({"delivered_on": "2026-11-22", "initial_h": 100}, 162.95, False, id="over the registered hours"),
    ],
)
def test_the_first_reading(fields: dict[str, Any], shown_h: float, is_suspect: bool) -> None:
    run = Run(machine(**fields))
    found = [one for one in run.read(meter(0, shown_h)) if one.startswith("hour_meter")]
    assert len(found) == (1 if is_suspect else 0)
    assert run.state.meter.true_ch == (None if is_suspect else ch(shown_h))


def test_no_milestone_from_a_suspect_and_one_episode_for_a_row_of_them() -> None:
    run = started()
    assert run.read(meter(1, 9_110)) == ["hour_meter 2026-11-22T05:20:31.000Z opened"]
    assert run.read(meter(1.01, 5_000), meter(1.02, 3), meter(1.03, 9_110)) == []
    assert run.read(meter(2, 111)) == ["hour_meter 2026-11-22T05:20:31.000Z cleared"]
    assert run.events[-1].time == at(2)
    assert true_h(run) == 111


def test_the_id_is_the_contracts() -> None:
    run = Run(machine(initial_h=100))
    run.read(reading(utc("2026-11-22 04:00:00"), 110), reading(T0, 500))
    assert str(run.events[-1].id) == "329fdf30-2da7-5366-96af-2c18220025b7"
    data = anomaly_data(run.events[-1])
    assert (data.kind, data.rule, data.severity) == ("hour_meter", "hour_meter", "warning")
    assert data.measured == {"hour_meter_h": 500.0, "expected_hours_h": 110.0, "true_hours_h": 110.0}


@pytest.mark.parametrize(
    ("minutes", "opens"),
    [
        pytest.param([0, 5, 9.99], False, id="three readings within 9.99 min"),
        pytest.param([0, 5, 10], True, id="three readings, 10 min in all"),
        pytest.param([0, 10], False, id="two are not three"),
        pytest.param([0, 10, 10], False, id="two of one instant are one"),
        pytest.param([0, 1, 2, 3, 10], True, id="the deciding one may be the fifth"),
    ],
)
def test_three_consistent_readings_open_a_segment(minutes: list[float], opens: bool) -> None:
    run = started()
    run.read(*(meter(1 + minute / 60, 3.0) for minute in minutes))
    assert count_cleared(run) == (1 if opens else 0)
    assert true_h(run) == 110
    if opens:
        last = 1 + minutes[-1] / 60
        assert run.events[-1].time == at(last)
        assert run.read(meter(last + 1, 4.0)) == []
        assert true_h(run) == 111, "the new meter goes on from the last true hours"


def count_cleared(run: Run) -> int:
    return sum(1 for one in run.words if one.endswith("cleared"))


def test_readings_that_disagree_begin_the_count_anew() -> None:
    run = started()
    run.read(meter(1, 3), meter(1.2, 3), meter(1.3, 900), meter(1.5, 3), meter(1.6, 3))
    assert count_cleared(run) == 0
    run.read(meter(1.7, 3))
    assert count_cleared(run) == 1


def test_two_readings_after_one_that_disagreed_are_not_three() -> None:
    run = started()
    run.read(meter(1, 3), meter(1.2, 900), meter(1.4, 3), meter(1.6, 3))
    assert count_cleared(run) == 0


def test_a_segment_before_any_accepted_reading_stands_at_the_registered_hours() -> None:
    run = Run(machine(initial_h=240))
    run.read(meter(0, 3), meter(0.1, 3.1), meter(0.2, 3.2))
    assert true_h(run) == 240
    assert run.words == ["hour_meter 2026-11-22T04:20:31.000Z opened", "hour_meter 2026-11-22T04:20:31.000Z cleared"]
    assert run.read(meter(10.2, 13.2)) == ["inspection 250 due"], "due at 250 true hours"
    assert run.events[-1].evidence == (Evidence(at(10.2), {"hour_meter_h": 13.2, "true_hours_h": 250.0}),)


def test_accept_makes_a_jump_true_and_raises_the_milestones_under_it() -> None:
    run = started()
    run.read(meter(1, 240), meter(1.5, 510))
    run.read(reading(at(2), engine_running=True))
    assert run.give(decision("accept", at(5))) == [
        "inspection 250 due",
        "inspection 250 overdue",
        "inspection 500 due",
        "hour_meter 2026-11-22T05:20:31.000Z cleared",
    ]
    assert run.one("inspection 500 due").time == at(1.5)
    assert run.one("inspection 500 due").data.recorded_at == at(1.5)
    assert run.events[-1].time == at(5)
    assert run.read(meter(2.5, 511)) == []
    assert run.read(meter(2.6, 9_000)) == ["hour_meter 2026-11-22T06:56:31.000Z opened"], "judged by what was accepted"


@pytest.mark.parametrize(
    ("shown_h", "wanted"),
    [pytest.param(39.99, [], id="39.99 h"), pytest.param(40, ["inspection 50 upcoming"], id="40 h")],
)
def test_accept_raises_no_more_than_its_hours_reach(shown_h: float, wanted: list[str]) -> None:
    run = Run()
    run.read(meter(0, 0), meter(0, shown_h))
    assert run.give(decision("accept", at(5)))[:-1] == wanted


def test_accept_of_the_last_of_two_readings_of_one_instant() -> None:
    run = started()
    run.read(meter(1, 180), meter(1, 190))
    run.give(decision("accept", at(5)))
    assert true_h(run) == 190


def test_accept_of_exactly_the_true_hours_is_no_rollback() -> None:
    run = started()
    run.read(meter(1, 109.92), meter(2, 109.84), meter(3, 109.76))
    assert run.read(meter(3, 110)) == ["hour_meter 2026-11-22T07:20:31.000Z opened"], "0.24 h at once"
    assert run.give(decision("accept", at(5))) == ["hour_meter 2026-11-22T07:20:31.000Z cleared"]
    assert true_h(run) == 110


def test_a_jump_of_a_new_meter_is_accepted_on_top_of_the_true_hours() -> None:
    run = started()
    run.give(decision("replaced", at(1)))
    run.read(meter(2, 7_000), meter(3, 7_080))
    assert anomaly_data(run.events[-1]).measured == {
        "hour_meter_h": 7_080.0,
        "expected_hours_h": 7_000.0,
        "true_hours_h": 110.0,
    }
    run.give(decision("accept", at(5)))
    assert true_h(run) == 190
    run.read(meter(6, 7_081))
    assert true_h(run) == 191


@pytest.mark.parametrize("word", ["accept", "reject"])
def test_with_nothing_held_there_is_nothing_to_decide(word: str) -> None:
    run = started()
    assert run.give(decision(word, at(5))) == []
    assert run.last.rejected is not None
    assert word in run.last.rejected


def test_accept_of_a_rollback_is_rejected() -> None:
    run = started()
    run.read(meter(1, 3))
    assert run.give(decision("accept", at(5))) == []
    assert run.last.rejected == "the held reading is a rollback: true hours never fall"
    assert run.state.meter.held is not None


def test_accept_of_a_first_reading_under_the_registered_hours_is_rejected() -> None:
    run = Run(machine(initial_h=100))
    run.read(meter(0, 50))
    assert run.give(decision("accept", at(5))) == []
    assert "rollback" in (run.last.rejected or "")


def test_a_new_meter_before_any_accepted_reading_raises_nothing_by_itself() -> None:
    run = Run(machine(initial_h=45))
    run.read(meter(0, 3))
    assert run.give(decision("replaced", at(5))) == ["hour_meter 2026-11-22T04:20:31.000Z cleared"]
    assert true_h(run) == 45
    assert run.read(meter(6, 3)) == ["inspection 50 upcoming"], "a lead by hours waits for a reading"


def test_the_meter_of_a_retired_machine_may_be_replaced() -> None:
    run = started()
    run.change(at(1), status=MachineStatus.RETIRED)
    assert run.give(decision("replaced", at(2))) == []
    assert run.read(meter(3, 7)) == []
    assert run.change(at(4)) == []
    assert run.read(meter(5, 8.5)) == []
    assert true_h(run) == 111.5


def test_reject_drops_what_is_held() -> None:
    run = started()
    run.read(meter(1, 3))
    assert run.give(decision("reject", at(5))) == ["hour_meter 2026-11-22T05:20:31.000Z cleared"]
    assert run.read(meter(6, 3.0)) == ["hour_meter 2026-11-22T10:20:31.000Z opened"]


@pytest.mark.parametrize(
    ("after_h", "opened"), [(5, []), (10, []), (10.1, ["hour_meter 2026-11-22T14:26:31.000Z opened"])], ids=str
)
def test_what_is_not_newer_than_a_rejected_reading_opens_nothing(after_h: float, opened: list[str]) -> None:
    run = started()
    run.read(meter(10, 500))
    assert run.give(decision("reject", at(11))) == ["hour_meter 2026-11-22T14:20:31.000Z cleared"]
    assert run.read(meter(after_h, 501)) == opened


def test_a_rejected_reading_stays_rejected_behind_an_accepted_one() -> None:
    run = started()
    run.read(meter(10, 500))
    run.give(decision("reject", at(11)))
    assert run.read(meter(8, 112), meter(9, 501)) == []
    assert true_h(run) == 112


def test_replaced_lets_the_last_held_reading_stand_at_the_last_true_hours() -> None:
    run = started()
    run.read(meter(1, 3))
    assert run.give(decision("replaced", at(5))) == ["hour_meter 2026-11-22T05:20:31.000Z cleared"]
    assert run.read(meter(6, 8)) == []
    assert true_h(run) == 115


def test_replaced_with_nothing_held_opens_the_segment_with_the_next_reading() -> None:
    run = started()
    assert run.give(decision("replaced", at(1))) == []
    assert run.last.rejected is None
    assert run.read(meter(2, 7_000), meter(3, 7_001)) == []
    assert true_h(run) == 111
    assert run.read(meter(4, 9_000)) == ["hour_meter 2026-11-22T08:20:31.000Z opened"]


def test_replaced_before_any_reading_begins_at_the_registered_hours() -> None:
    run = Run(machine(initial_h=240))
    run.give(decision("replaced", at(1)))
    assert run.read(meter(2, 7)) == []
    assert true_h(run) == 240
    assert run.read(meter(3, 500)) == ["hour_meter 2026-11-22T07:20:31.000Z opened"], "judged by that reading"


def test_back_inside_at_the_very_instant_of_the_last_suspect() -> None:
    run = started()
    assert [one.split()[-1] for one in run.read(meter(1, 9_000), meter(1, 110.5))] == ["opened", "cleared"]


def test_a_late_reading_that_agrees_lowers_nothing() -> None:
    run = started()
    assert run.read(meter(10, 115), meter(5, 112)) == []
    assert true_h(run) == 115


def test_late_readings_leave_the_episode_alone() -> None:
    run = started()
    run.read(meter(5, 9_000))
    assert run.read(meter(4, 9_000), meter(3, 3), meter(-5, 7)) == []
    assert run.read(meter(2, 112)) == [], "inside the band, older than the suspect: no end of its episode"
    assert true_h(run) == 112, "but it counts as if it had come in time"
    assert count_cleared(run) == 0
    assert run.read(meter(6, 113)) == ["hour_meter 2026-11-22T09:20:31.000Z cleared"]


def test_a_late_reading_of_a_new_segment_stands_where_the_segment_stands() -> None:
    run = started()
    run.read(meter(1, 3), meter(1.1, 3.1), meter(1.2, 3.2), meter(2.2, 4.2))
    assert true_h(run) == 111
    assert run.read(meter(1.9, 4.25)) == []
    assert true_h(run) == 111.05
    assert run.read(meter(2.0, 4.31)) == [], "0.11 h over what was shown later: it does not agree"
    assert true_h(run) == 111.05


def test_a_retired_machine_forgets_what_was_held() -> None:
    run = started()
    run.read(meter(1, 9_000))
    assert run.change(at(2), status=MachineStatus.RETIRED) == []
    assert run.state.meter.held is None
    run.read(meter(3, 9_000))
    assert run.change(at(4)) == []
    assert run.state.meter.held is None
    assert run.words == ["hour_meter 2026-11-22T05:20:31.000Z opened"]


def test_the_quadruple_fault_of_the_field() -> None:
    """Reset, a leap, the old meter again: true hours never fall, 250 comes due once, at its hour."""
    run = started(240)
    run.read(meter(1, 0), meter(1.1, 0.1), meter(1.2, 0.2))
    run.read(meter(5.2, 4.2))
    assert true_h(run) == 244
    run.read(meter(6, 9_244), meter(6.5, 245))
    assert true_h(run) == 244
    assert "inspection 250 due" not in run.words
    assert run.read(meter(12, 10.19)) == ["hour_meter 2026-11-22T10:20:31.000Z cleared"]
    assert true_h(run) == 249.99
    assert run.read(meter(13, 10.2), meter(14, 10.3)) == ["inspection 250 due"]
