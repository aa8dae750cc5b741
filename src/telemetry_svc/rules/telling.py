"""From findings to events: through the storm cap, under the policy file that decided, with the evidence."""

from datetime import datetime

from msgspec.structs import replace

from telemetry_svc.events import Event, Evidence
from telemetry_svc.rules import storm
from telemetry_svc.rules.facts import Basis, Finding, anomaly
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.state import MachineState
from telemetry_svc.units import hours_from


def basis_of(policy: Policy, state: MachineState, recorded_at: datetime | None = None) -> Basis:
    """For events decided by the reading of `recorded_at`, or, without one, by what is last known."""
    evidence: tuple[Evidence, ...] = ()
    if recorded_at is not None and state.meter.true_ch is not None:
        shown_ch = state.meter.true_ch - state.meter.offset_ch
        values = {"hour_meter_h": hours_from(shown_ch), "true_hours_h": hours_from(state.meter.true_ch)}
        evidence = (Evidence(recorded_at, dict(values)),)
    return Basis(
        machine_id=state.machine.machine_id,
        edition=policy.edition,
        digest=policy.digest,
        recorded_at=recorded_at or state.latest_recorded_at,
        true_ch=state.meter.true_ch,
        evidence=evidence,
    )


def told(
    policy: Policy, state: MachineState, findings: tuple[Finding, ...], recorded_at: datetime | None = None
) -> tuple[MachineState, tuple[Event, ...]]:
    """The anomalies that are told, in the order in which they were found."""
    if not findings:
        return state, ()
    gathering, shown = storm.sift(policy.storm, state.storm, findings, recorded_at or state.latest_recorded_at)
    basis = basis_of(policy, state, recorded_at)
    return replace(state, storm=gathering), tuple(anomaly(basis, found) for found in shown)


def storm_over(policy: Policy, state: MachineState, at: datetime) -> tuple[MachineState, tuple[Event, ...]]:
    """A storm that `at` has outlasted."""
    calm, findings = storm.by_clock(policy.storm, state.storm, at)
    if not findings:
        return state, ()
    basis = basis_of(policy, state)
    return replace(state, storm=calm), tuple(anomaly(basis, found) for found in findings)
