"""`step`: one input and what is remembered of its machine become the next state and the facts decided.

Pure and total: no clock, no IO; the same inputs in the same order give the same events. The rules that a reading
passes are called one after the other in `_read`, each in its own file; an ordinary ping passes them all with
comparisons alone.
"""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules import fault_codes, hour_meter, maintenance, sensors, silence, whereabouts
from telemetry_svc.rules.facts import Finding
from telemetry_svc.rules.hour_meter import MeterState
from telemetry_svc.rules.maintenance import MaintenanceState
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.registration import change, register
from telemetry_svc.rules.silence import SilenceState
from telemetry_svc.rules.state import MachineState, Step
from telemetry_svc.rules.telling import basis_of, told
from telemetry_svc.rules.waiting import awaiting, by_clock
from telemetry_svc.telemetry import (
    Input,
    InspectionDone,
    MachineStatus,
    MeterDecision,
    Ping,
    Reading,
    Registration,
    Tick,
)

_RETIRED = MachineStatus.RETIRED  # an enum's member costs a look-up each time, and this is asked per ping


def step(policy: Policy, state: MachineState | None, given: Input) -> Step:
    """The next state and events of one machine. `state` is `None` only with the registration of a new machine."""
    if state is None:
        if isinstance(given, Registration):
            return register(policy, given)
        raise TypeError(f"a machine begins with its registration, not with a {type(given).__name__}")
    if isinstance(given, Reading):
        return _reading(policy, state, given)
    match given:
        case Tick():
            return _tick(policy, state, given.at)
        case Registration():
            return change(policy, state, given)
        case InspectionDone():
            return _inspection_done(policy, state, given)
        case MeterDecision():
            return _meter_decision(policy, state, given)


def _reading(policy: Policy, state: MachineState, reading: Reading) -> Step:
    """Silence hears every ping; the other rules none that is *future*, and a retired machine only remembers."""
    at, newest = reading.ping.recorded_at, state.newest_recorded_at
    if newest is None or at > newest:
        newest = at
    heard, findings = silence.read(policy.silence, state.silence, reading, state.machine.status)
    if state.machine.status is _RETIRED:
        return Step(_remembered(policy, state, reading, newest, heard))
    if reading.future:
        state = awaiting(replace(state, newest_recorded_at=newest, silence=heard))
        return Step(*told(policy, state, findings, at))
    events: tuple[Event, ...] = ()
    if at >= state.wake_at:
        state, events = by_clock(policy, state, at, is_broker_clock=False)
    return _read(policy, state, reading.ping, newest, heard, findings, events)


def _read(
    policy: Policy,
    state: MachineState,
    ping: Ping,
    newest: datetime,
    heard: SilenceState,
    findings: tuple[Finding, ...],
    events: tuple[Event, ...],
) -> Step:
    """The rules in their order; each gives its state after the ping and what it found."""
    at, latest, machine = ping.recorded_at, state.latest_recorded_at, state.machine
    if latest is None or at > latest:
        latest = at
    meter, due = state.meter, state.maintenance
    if ping.hour_meter_ch is not None:
        meter, due, facts, suspect = _hours(policy, state, ping, ping.hour_meter_ch)
        if suspect or facts:
            findings, events = findings + suspect, events + facts
    faults, coded = fault_codes.read(policy.fault_codes, state.faults, ping)
    where, located = whereabouts.read(policy, state.whereabouts, machine, ping)
    running = where.engine_running if ping.engine_running is None else ping.engine_running
    sensed, measured = sensors.read(policy.sensors, state.sensors, ping, engine_running=running)
    next_check_at, wake_at, storm = state.next_check_at, state.wake_at, state.storm
    after = MachineState(
        machine, due, newest, latest, next_check_at, wake_at, meter, faults, heard, where, sensed, storm
    )
    findings += coded + located + measured
    if not findings and due is state.maintenance and heard.check_at is state.silence.check_at:
        return Step(after, events)
    after, anomalies = told(policy, after, findings, at)
    return Step(awaiting(after), events + anomalies)


def _hours(
    policy: Policy, state: MachineState, ping: Ping, shown_ch: int
) -> tuple[MeterState, MaintenanceState, tuple[Event, ...], tuple[Finding, ...]]:
    """The hour meter, and the promises that hang on it."""
    due, at, machine = state.maintenance, ping.recorded_at, state.machine
    meter, findings, hours_ch = hour_meter.read(policy.hour_meter, state.meter, machine, ping, shown_ch)
    true_ch = meter.true_ch
    if hours_ch is None or true_ch is None:
        return meter, due, (), findings
    if at >= due.usage.next_day_at:
        due = maintenance.observed(policy, due, at, true_ch)
    events: tuple[Event, ...] = ()
    if true_ch >= due.next_hours_ch or due.quiet:
        basis = basis_of(policy, replace(state, meter=meter), at)
        due, events = maintenance.by_hours(policy, due, machine, basis, true_ch, at)
    latest_at = state.latest_recorded_at
    if latest_at is not None and at < latest_at:
        due, more = maintenance.by_late_hours(policy, due, machine, basis_of(policy, state), hours_ch, at, latest_at)
        events += more
    return meter, due, events, findings


def _remembered(
    policy: Policy, state: MachineState, reading: Reading, newest: datetime, heard: SilenceState
) -> MachineState:
    """A retired machine raises nothing; its readings and its engine are only remembered."""
    ping, meter, latest = reading.ping, state.meter, state.latest_recorded_at
    state = replace(state, newest_recorded_at=newest, silence=heard)
    if reading.future:
        return state
    if ping.hour_meter_ch is not None:
        meter, _, _ = hour_meter.read(policy.hour_meter, meter, state.machine, ping, ping.hour_meter_ch)
    latest = ping.recorded_at if latest is None else max(latest, ping.recorded_at)
    return replace(state, latest_recorded_at=latest, meter=meter)


def _tick(policy: Policy, state: MachineState, at: datetime) -> Step:
    if state.next_check_at is None or at < state.next_check_at:
        return Step(state)
    return Step(*by_clock(policy, state, at, is_broker_clock=True))


def _inspection_done(policy: Policy, state: MachineState, command: InspectionDone) -> Step:
    if state.machine.status is _RETIRED:
        return Step(state, (), "the machine is retired")
    basis = basis_of(policy, state)
    after = maintenance.inspection_done(policy, state.maintenance, state.machine, basis, command)
    if isinstance(after, str):
        return Step(state, (), after)
    return Step(awaiting(replace(state, maintenance=after[0])), after[1])


def _meter_decision(policy: Policy, state: MachineState, command: MeterDecision) -> Step:
    decided = hour_meter.decide(policy.hour_meter, state.meter, state.machine, command)
    if isinstance(decided, str):
        return Step(state, (), decided)
    meter, findings, accepted_at = decided
    state = replace(state, meter=meter)
    if state.machine.status is _RETIRED:
        return Step(state)
    facts: tuple[Event, ...] = ()
    if accepted_at is not None and meter.true_ch is not None:
        basis = basis_of(policy, state, accepted_at)
        due, facts = maintenance.by_hours(policy, state.maintenance, state.machine, basis, meter.true_ch, accepted_at)
        state = replace(state, maintenance=due)
    state, closed = told(policy, state, findings)
    return Step(awaiting(state), facts + closed)
