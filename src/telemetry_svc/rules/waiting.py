"""What a machine waits for: the next instant at which time alone can decide something.

Kept beside the state so that the store can ask for the few machines a tick concerns (design.md, decision 5).
"""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.rules.facts import Basis
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.state import MachineState
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import MachineStatus


def awaiting(state: MachineState) -> MachineState:
    """The state with `wake_at` and `next_check_at` anew; a retired machine waits for nothing."""
    wake_at = NEVER if state.machine.status is MachineStatus.RETIRED else state.maintenance.next_at
    return replace(state, wake_at=wake_at, next_check_at=None if wake_at == NEVER else wake_at)


def basis_of(policy: Policy, state: MachineState, recorded_at: datetime | None = None) -> Basis:
    """For events decided by the reading of `recorded_at`, or, without one, by what is last known."""
    return Basis(
        machine_id=state.machine.machine_id,
        edition=policy.edition,
        digest=policy.digest,
        recorded_at=recorded_at or state.latest_recorded_at,
        true_ch=state.meter.true_ch,
    )
