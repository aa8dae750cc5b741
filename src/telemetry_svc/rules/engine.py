"""`step`: one input and what is remembered of its machine become the next state and the facts decided (style.md,
habit 1).

Pure and total: no clock, no IO; the same inputs in the same order give the same events. The rules are called one
after the other in `_read`, each in its own file; an ordinary ping passes them all with comparisons alone.
"""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules import fault_codes, hour_meter, maintenance
from telemetry_svc.rules.facts import anomaly
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.registration import change, register
from telemetry_svc.rules.state import MachineState, Step
from telemetry_svc.rules.waiting import awaiting, basis_of
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
            return Step(state, (), "no reading of the hour meter is held")


def _reading(policy: Policy, state: MachineState, reading: Reading) -> Step:
    ping = reading.ping
    at, newest, latest = ping.recorded_at, state.newest_recorded_at, state.latest_recorded_at
    if newest is None or at > newest:
        newest = at
    if reading.future:
        return Step(replace(state, newest_recorded_at=newest))
    if latest is None or at > latest:
        latest = at
    events: tuple[Event, ...] = ()
    if at >= state.wake_at:
        state, events = _by_clock(policy, state, at)
    if state.machine.status is MachineStatus.RETIRED:
        return Step(_remembered(state, newest, latest, ping))
    shown_ch, meter, due = ping.hour_meter_ch, state.meter, state.maintenance
    if shown_ch is not None:
        meter = hour_meter.read(meter, ping, shown_ch)
    if meter.true_ch is not None and (meter.true_ch >= due.next_hours_ch or due.quiet):
        basis = basis_of(policy, replace(state, meter=meter), at)
        due, found = maintenance.by_hours(policy, due, state.machine, basis, meter.true_ch, at)
        events += found
    faults, findings = fault_codes.read(policy.fault_codes, state.faults, ping)
    if findings:
        basis = basis_of(policy, state, at)
        events += tuple(anomaly(basis, found) for found in findings)
    after = MachineState(state.machine, due, newest, latest, state.next_check_at, state.wake_at, meter, faults)
    return Step(awaiting(after) if due is not state.maintenance else after, events)


def _remembered(state: MachineState, newest: datetime, latest: datetime, ping: Ping) -> MachineState:
    """A retired machine raises nothing; its readings are only remembered."""
    meter = state.meter
    if ping.hour_meter_ch is not None:
        meter = hour_meter.read(meter, ping, ping.hour_meter_ch)
    return replace(state, newest_recorded_at=newest, latest_recorded_at=latest, meter=meter)


def _by_clock(policy: Policy, state: MachineState, at: datetime) -> tuple[MachineState, tuple[Event, ...]]:
    due, events = maintenance.by_clock(policy, state.maintenance, state.machine, basis_of(policy, state), at)
    return awaiting(replace(state, maintenance=due)), events


def _tick(policy: Policy, state: MachineState, at: datetime) -> Step:
    if state.next_check_at is None or at < state.next_check_at:
        return Step(state)
    return Step(*_by_clock(policy, state, at))


def _inspection_done(policy: Policy, state: MachineState, command: InspectionDone) -> Step:
    if state.machine.status is MachineStatus.RETIRED:
        return Step(state, (), "the machine is retired")
    basis = basis_of(policy, state)
    after = maintenance.inspection_done(policy, state.maintenance, state.machine, basis, command)
    if isinstance(after, str):
        return Step(state, (), after)
    return Step(awaiting(replace(state, maintenance=after[0])), after[1])
