"""Everything remembered of one machine, as one frozen value that the store keeps as bytes.

One sub-state per rule, each defined with its rule. What an ordinary reading must compare with (`wake_at`, the next
hours in `maintenance`) is kept ready, so that the hot path does no calendar arithmetic (design.md, "Hot path").
"""

from datetime import datetime

import msgspec
from msgspec import Struct

from telemetry_svc.events import Event
from telemetry_svc.rules.fault_codes import FaultsState
from telemetry_svc.rules.hour_meter import MeterState
from telemetry_svc.rules.maintenance import MaintenanceState
from telemetry_svc.rules.sensors import SensorsState
from telemetry_svc.rules.silence import SilenceState
from telemetry_svc.rules.storm import StormState
from telemetry_svc.rules.whereabouts import Whereabouts
from telemetry_svc.rules.zone_time import NEVER
from telemetry_svc.telemetry import Machine


class MachineState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`newest_recorded_at`: of all readings, future ones included; `latest_recorded_at`: of the others.

    `next_check_at`: when time alone can decide something (by the broker's clock); `wake_at`: the same for what a
    reading's own `recorded_at` may decide too.
    """

    machine: Machine
    maintenance: MaintenanceState
    newest_recorded_at: datetime | None = None
    latest_recorded_at: datetime | None = None
    next_check_at: datetime | None = None
    wake_at: datetime = NEVER
    meter: MeterState = MeterState()
    faults: FaultsState = FaultsState()
    silence: SilenceState = SilenceState()
    whereabouts: Whereabouts = Whereabouts()
    sensors: SensorsState = SensorsState()
    storm: StormState = StormState()


class Step(Struct, frozen=True, gc=False):
    """What one input does: the state after it, the events in order, or the reason why a command is refused."""

    state: MachineState
    events: tuple[Event, ...] = ()
    rejected: str | None = None


_DECODER = msgspec.json.Decoder(MachineState)
_ENCODER = msgspec.json.Encoder()


def encode_state(state: MachineState) -> bytes:
    """JSON, so that an operator can read it in the database."""
    return _ENCODER.encode(state)


def decode_state(encoded: bytes) -> MachineState:
    """The state that `encode_state` was given; raises `msgspec.DecodeError` on anything else."""
    return _DECODER.decode(encoded)
