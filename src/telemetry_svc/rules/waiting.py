"""What a machine waits for: the next instant at which time alone can decide something, and what it decides then.

Kept beside the state so that the store can ask for the few machines a tick concerns (design.md, decision 5).
"""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.events import Event
from telemetry_svc.rules import maintenance, movement, silence
from telemetry_svc.rules.facts import Finding
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.state import MachineState
from telemetry_svc.rules.telling import basis_of, storm_over, told
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import MachineStatus


def awaiting(state: MachineState) -> MachineState:
    """The state with `wake_at` and `next_check_at` anew; a retired machine waits for nothing."""
    if state.machine.status is MachineStatus.RETIRED:
        return replace(state, wake_at=NEVER, next_check_at=None)
    wake_at = min(state.maintenance.next_at, state.storm.clears_at, state.whereabouts.movement.next_at)
    check_at = min(wake_at, state.silence.check_at)
    return replace(state, wake_at=wake_at, next_check_at=None if check_at == NEVER else check_at)


def by_clock(
    policy: Policy, state: MachineState, at: datetime, *, is_broker_clock: bool
) -> tuple[MachineState, tuple[Event, ...]]:
    """What time alone has decided up to `at`; silence only by the broker's clock."""
    due, events = maintenance.by_clock(policy, state.maintenance, state.machine, basis_of(policy, state), at)
    moved, findings = movement.by_clock(policy.movement, state.whereabouts.movement, state.machine, at)
    quiet = state.silence
    if is_broker_clock:
        quiet, silent = silence.by_clock(policy.silence, quiet, at)
        findings += silent
    state = replace(state, maintenance=due, silence=quiet, whereabouts=replace(state.whereabouts, movement=moved))
    state, anomalies = _in_order_of_time(policy, state, findings, at)
    return awaiting(state), events + anomalies


def _in_order_of_time(
    policy: Policy, state: MachineState, findings: tuple[Finding, ...], at: datetime
) -> tuple[MachineState, tuple[Event, ...]]:
    """A storm that was over before a finding does not swallow it."""
    events: tuple[Event, ...] = ()
    for found in sorted(findings, key=lambda found: found.time):
        state, over = storm_over(policy, state, found.time)
        state, shown = told(policy, state, (found,))
        events += over + shown
    state, over = storm_over(policy, state, at)
    return state, events + over
