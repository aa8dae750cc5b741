"""A machine is registered, or its registration changes (policy.md, "Settled at registration").

What the registration's own fields show as past is recorded, not announced; a warranty window that is open is
announced; a lead by hours waits for a reading. A retired machine has no events: what was open ends without one, and
on the way back what was passed meanwhile is settled.
"""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules import hour_meter, maintenance, silence, storm, whereabouts
from telemetry_svc.rules.fault_codes import FaultsState
from telemetry_svc.rules.maintenance import MaintenanceState
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.sensors import SensorsState
from telemetry_svc.rules.state import MachineState, Step
from telemetry_svc.rules.telling import basis_of, told
from telemetry_svc.rules.waiting import awaiting, by_clock
from telemetry_svc.telemetry import Machine, MachineStatus, Registration


def register(policy: Policy, command: Registration) -> Step:
    """A machine that was not known."""
    machine = command.machine
    begun = maintenance.begin(policy, machine, command.effective_at, quiet=command.quiet)
    return _settled(policy, MachineState(machine, begun), begun, machine, command.effective_at)


def change(policy: Policy, state: MachineState, command: Registration) -> Step:
    """A known machine under new terms: first what the old ones had decided by then, then what the new ones settle."""
    machine, at = command.machine, command.effective_at
    if machine.policy_edition != state.machine.policy_edition:
        return Step(state, (), f"a machine is bound to its edition ({state.machine.policy_edition}) for good")
    before: tuple[Event, ...] = ()
    if state.machine.status is not MachineStatus.RETIRED and at >= state.wake_at:
        state, before = by_clock(policy, state, at, is_broker_clock=False)
    state, anomalies = _in_status(policy, state, command)
    quiet = (state.maintenance.quiet or command.quiet) and state.meter.true_ch is None
    terms = maintenance.changed(policy, replace(state.maintenance, quiet=quiet), machine)
    after = _settled(policy, state, terms, machine, at)
    return Step(after.state, before + anomalies + after.events)


def _in_status(policy: Policy, state: MachineState, command: Registration) -> tuple[MachineState, tuple[Event, ...]]:
    """The anomalies under the new status, places and hours; the machine itself is changed afterwards."""
    old, new = state.machine, command.machine
    state = replace(
        state, silence=silence.changed(policy.silence, state.silence, old.status, new.status, command.received_at)
    )
    if MachineStatus.RETIRED in (old.status, new.status):
        return _ended(state), ()
    where, findings = whereabouts.changed(policy, state.whereabouts, old, new, command.effective_at)
    return told(policy, replace(state, whereabouts=where), findings)


def _ended(state: MachineState) -> MachineState:
    """Every open episode ends without an event; what decided last stays known, so that late reports stay late."""
    return replace(
        state,
        meter=hour_meter.ended(state.meter),
        faults=FaultsState(state.faults.all_at, state.faults.addresses),
        whereabouts=whereabouts.ended(state.whereabouts),
        sensors=SensorsState(state.sensors.decided_at, state.sensors.newest_at),
        storm=storm.ended(state.storm),
    )


def _settled(policy: Policy, state: MachineState, terms: MaintenanceState, machine: Machine, at: datetime) -> Step:
    """`state` under `terms`, what is past settled, and the windows that are open announced."""
    level_ch = max(machine.initial_ch, state.meter.true_ch or 0)
    state = replace(state, machine=machine)
    settled = maintenance.settle(policy, terms, machine, level_ch, at)
    if machine.status is MachineStatus.RETIRED:
        return Step(awaiting(replace(state, maintenance=settled)))
    opened, events = maintenance.by_clock(policy, settled, machine, basis_of(policy, state), at)
    return Step(awaiting(replace(state, maintenance=opened)), events)
