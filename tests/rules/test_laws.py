"""What holds of every history, whatever comes and in whatever order (design.md, decisions 4 to 7).

The searches count how often each stage and path was reached, and the last test fails where one never was: a law over
histories in which nothing happens proves nothing.
"""

import random
from collections import Counter
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_svc.events import SEVERITY_RANK, Anomaly, Event, MaintenanceDue
from telemetry_svc.rules import MachineState, decode_state, encode_state, step
from telemetry_svc.telemetry import Input, Machine, MachineStatus, Reading, Registration, Tick
from tests.rules.budget import SCALE, budget
from tests.rules.histories import BEGIN, histories
from tests.rules.machines import MACHINE_ID, machine, policy, reading, registration, utc, word
from tests.rules.reference_meter import months_later

# A search is three times as fast uncounted; what only a search reaches is covered by no case that names it.
pytestmark = pytest.mark.uncounted

REACHED: Counter[str] = Counter()
DUE_SET = ("due", "overdue", "expired")


def lived(of: Machine, inputs: list[Input]) -> tuple[MachineState, list[Event]]:
    """The end of a history and all it raised; ticks reach the machine as ingest gives them."""
    last = step(policy(), None, registration(of, BEGIN))
    events = list(last.events)
    for one in inputs:
        last = step(policy(), last.state, one)
        events.extend(last.events)
    return last.state, events


def count(events: list[Event]) -> None:
    for event in events:
        data = event.data
        if isinstance(data, MaintenanceDue):
            REACHED[f"{data.kind} {data.coverage or ''} {data.stage}"] += 1
            if data.kind == "inspection":
                REACHED[f"milestone {data.milestone_h}"] += 1
        else:
            REACHED[f"{data.rule} {data.phase}"] += 1


@given(histories(with_changes=True, size=60))
@budget(250)
def test_step_is_total_and_the_same_order_gives_the_same_events(history: tuple[Machine, list[Input]]) -> None:
    of, inputs = history
    state, events = lived(of, inputs)
    count(events)
    assert lived(of, inputs) == (state, events)
    assert {event.machine_id for event in events} <= {MACHINE_ID}, "machines never touch each other"


@given(histories(with_changes=True))
@budget(200)
def test_every_state_survives_its_bytes_and_a_refused_command_leaves_it_alone(
    history: tuple[Machine, list[Input]],
) -> None:
    of, inputs = history
    last = step(policy(), None, registration(of, BEGIN))
    for one in inputs:
        state = last.state
        assert decode_state(encode_state(state)) == state
        last = step(policy(), state, one)
        if last.rejected is not None:
            REACHED["refused"] += 1
            assert (last.state, last.events) == (state, ())


@given(histories(with_changes=True))
@budget(200)
def test_true_hours_never_fall(history: tuple[Machine, list[Input]]) -> None:
    of, inputs = history
    last = step(policy(), None, registration(of, BEGIN))
    before = 0
    for one in inputs:
        held = last.state.meter.held
        last = step(policy(), last.state, one)
        true_ch = last.state.meter.true_ch or 0
        assert true_ch >= before
        before = true_ch
        if held is not None and last.state.meter.held is None:
            REACHED[f"held readings ended by {type(one).__name__}"] += 1


@given(histories(with_changes=True, size=60))
@budget(200)
def test_episodes_open_and_close_alternately_and_never_sink(history: tuple[Machine, list[Input]]) -> None:
    _, events = lived(*history)
    open_now: dict[str, int] = {}
    for event in events:
        if not isinstance(event.data, Anomaly):
            continue
        episode, rank = event.data.episode, SEVERITY_RANK[event.data.severity]
        if event.data.phase == "opened":
            assert episode not in open_now
            open_now[episode] = rank
        elif event.data.phase == "worsened":
            assert rank > open_now[episode]
            open_now[episode] = rank
        else:
            assert rank == open_now.pop(episode)


@given(histories(with_changes=True))
@budget(200)
def test_no_tick_before_the_next_check_decides_anything(history: tuple[Machine, list[Input]]) -> None:
    of, inputs = history
    last = step(policy(), None, registration(of, BEGIN))
    for one in inputs:
        last = step(policy(), last.state, one)
        check_at = last.state.next_check_at
        just_before = utc("2099-01-01") if check_at is None else check_at - timedelta(milliseconds=1)
        early = step(policy(), last.state, Tick(just_before))
        assert (early.state, early.events) == (last.state, ())


@given(histories(with_changes=True))
@budget(150)
def test_a_retired_machine_says_nothing(history: tuple[Machine, list[Input]]) -> None:
    of, inputs = history
    retired = replace(of, status=MachineStatus.RETIRED)
    last = step(policy(), None, registration(retired, BEGIN))
    for one in inputs:
        if not isinstance(one, Registration):
            last = step(policy(), last.state, one)
            assert last.events == ()


# --- readings that agree ------------------------------------------------------------------------------------------


@st.composite
def agreeing(draw: st.DrawFn) -> tuple[Machine, list[Reading]]:
    """Readings of which each pair lies inside the physical band, none suspect as a first one, in order of time."""
    initial_h = draw(st.sampled_from([0.0, 0.0, 45.0, 2_900.0]))
    at, hours_h = utc(draw(st.sampled_from(["2022-06-01", "2025-12-01", "2026-01-15", "2026-01-15"]))), initial_h
    days = draw(st.sampled_from([None, None, 0, 100, 370, 540]))
    delivered_on = None if days is None else at.date() - timedelta(days=days)
    of = machine(draw(st.sampled_from([19.9, 20.0])), initial_h=initial_h, delivered_on=delivered_on)
    readings = []
    for _ in range(draw(st.integers(2, 14))):
        pause_h = draw(st.sampled_from([0.0, 0.01, 1.0, 24.0, 240.0, 2_400.0, 9_000.0]))
        at += timedelta(hours=pause_h)
        hours_h += pause_h * draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
        jitter_h = draw(st.sampled_from([0.0, 0.0, 0.05, -0.05]))
        shown_h = max(initial_h, round(hours_h, 2) + jitter_h)
        readings.append(reading(at, round(shown_h, 2), received_at=max(at, utc("2030-01-01"))))
    return of, readings


def due_set(of: Machine, readings: list[Reading]) -> dict[str, Event]:
    _, events = lived(of, list(readings))
    assert not [event for event in events if event.rule == "hour_meter"], "these readings agree"
    return {word(event): event for event in events if event.stage in DUE_SET}


def settled_by_registration(in_time: dict[str, Event]) -> set[str]:
    """The check-ups after the first that the reading which ended W1 brings, up to the day of registration (R4)."""
    ended = in_time.get("warranty machine expired")
    if ended is None:
        return set()
    ended_on, registered_on = (at.astimezone(ZoneInfo("Asia/Shanghai")).date() for at in (ended.time, BEGIN))
    numbers = [number for number in range(2, 20) if months_later(ended_on, 12 * (number - 1)) <= registered_on]
    return {f"checkup {number} due" for number in numbers}


@given(agreeing(), st.randoms(use_true_random=False), st.data())
@budget(400)
def test_what_is_due_does_not_depend_on_order_or_repetition(
    drawn: tuple[Machine, list[Reading]], shuffle: random.Random, data: st.DataObject
) -> None:
    """In any order what comes in time comes; and nothing else, except where policy.md contradicts itself (ADR 0014):
    a check-up that had to be told before an older reading put it among those that the registration settles.
    """
    of, readings = drawn
    in_time = due_set(of, readings)
    arrived = readings + data.draw(st.lists(st.sampled_from(readings), max_size=5))
    shuffle.shuffle(arrived)
    told = due_set(of, arrived).keys()
    assert in_time.keys() <= told
    too_early = told - in_time.keys()
    assert too_early <= settled_by_registration(in_time)
    REACHED["agreeing: something due"] += bool(in_time)
    REACHED["agreeing: warranty expired"] += "warranty machine expired" in in_time
    REACHED["agreeing: a later check-up"] += "checkup 2 due" in in_time
    REACHED["agreeing: a check-up told too early (ADR 0014)"] += bool(too_early)


@given(
    st.sampled_from([19.9, 20.0]),
    st.dates(date(2023, 1, 1), date(2027, 12, 31)),
    st.sampled_from(["Asia/Shanghai", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Auckland"]),
    st.integers(17, 5_000),
    st.integers(0, 86_399),
)
@budget(300)
def test_time_driven_and_ping_driven_expiry_agree(
    tonnage_t: float, day: date, zone: str, days: int, seconds: int
) -> None:
    at = BEGIN + timedelta(days=days, seconds=seconds)
    of = machine(tonnage_t, delivered_on=day, time_zone=zone)
    by_tick = lived(of, [Tick(at)])[1]
    by_ping = lived(of, [reading(at, engine_running=True)])[1]
    assert by_tick == by_ping
    step_by_step = lived(of, [Tick(BEGIN + (at - BEGIN) * n / 200) for n in range(1, 201)])[1]
    told = {event.id: event for event in step_by_step}
    assert all(told[event.id] == event for event in by_tick), (
        "however late the clock, the same facts with the same times"
    )


def test_every_stage_and_path_was_reached() -> None:
    print("\n" + "\n".join(f"{number:7d}  {name}" for name, number in sorted(REACHED.items())))
    stages = [f"inspection  {one}" for one in ("upcoming", "due", "overdue", "completed", "superseded")]
    stages += [f"warranty {of} {one}" for of in ("machine", "structure") for one in ("expiring", "expired")]
    stages += [f"checkup  {one}" for one in ("due", "completed", "superseded")]
    rules = ["fault", "hour_meter", "silence", "speed", "geofence", "engine_off_movement", "outside_hours"]
    rules += ["coolant_temperature_c", "oil_pressure_kpa", "battery_v", "fuel_level_pct"]
    phases = [f"{rule} {phase}" for rule in rules for phase in ("opened", "cleared")] + ["fault worsened"]
    milestones = [f"milestone {one}" for one in policy().inspections.milestones_h]
    suspects = [f"held readings ended by {one}" for one in ("Reading", "MeterDecision", "Registration")]
    rest = ["refused", "agreeing: something due", "agreeing: warranty expired", "agreeing: a later check-up"]
    if SCALE >= 1:
        assert [one for one in stages + phases + milestones + suspects + rest if not REACHED[one]] == []
