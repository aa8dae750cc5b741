"""A machine is registered, or its registration changes (policy.md, "Settled at registration").

What the registration's own fields show as past is recorded, not announced; a warranty window that is open is
announced; a lead by hours waits for a reading.
"""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules import maintenance
from telemetry_svc.rules.maintenance import MaintenanceState
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.state import MachineState, Step
from telemetry_svc.rules.waiting import awaiting, basis_of
from telemetry_svc.telemetry import Machine, MachineStatus, Registration


def register(policy: Policy, command: Registration) -> Step:
    """A machine that was not known."""
    machine = command.machine
    begun = maintenance.begin(policy, machine, command.effective_at, quiet=command.quiet)
    return _settled(policy, MachineState(machine, begun), begun, machine, command.effective_at)


def change(policy: Policy, state: MachineState, command: Registration) -> Step:
    """A known machine under new terms: first what the old ones had decided by then, then what the new ones settle."""
    machine = command.machine
    if machine.policy_edition != state.machine.policy_edition:
        return Step(state, (), f"a machine is bound to its edition ({state.machine.policy_edition}) for good")
    decided, before = state.maintenance, tuple[Event, ...]()
    if state.machine.status is not MachineStatus.RETIRED:
        decided, before = maintenance.by_clock(
            policy, decided, state.machine, basis_of(policy, state), command.effective_at
        )
    quiet = decided.quiet or (command.quiet and state.meter.true_ch is None)
    changed = maintenance.changed(policy, replace(decided, quiet=quiet), machine)
    after = _settled(policy, state, changed, machine, command.effective_at)
    return Step(after.state, before + after.events)


def _settled(policy: Policy, state: MachineState, terms: MaintenanceState, machine: Machine, at: datetime) -> Step:
    """`state` under `terms`, what is past settled, and the windows that are open announced."""
    level_ch = max(machine.initial_ch, state.meter.true_ch or 0)
    state = replace(state, machine=machine)
    settled = maintenance.settle(policy, terms, machine, level_ch, at)
    if machine.status is MachineStatus.RETIRED:
        return Step(awaiting(replace(state, maintenance=settled)))
    opened, events = maintenance.by_clock(policy, settled, machine, basis_of(policy, state), at)
    return Step(awaiting(replace(state, maintenance=opened)), events)
