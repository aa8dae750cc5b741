"""The fleet that the demo shows: forty machines whose past begins three months ago and leads up to now.

Whoever starts the demo, at whatever hour, must see something to call about within the first few hundred pings and must
still find it there once the fleet has caught up with the clock. So the leading parts are cast by hand: three machines
around the world that work around the clock with a critical fault that nobody mends, in every place one that was never
inspected, some shortly before their next inspection, two whose warranty the hours have ended, and one for each kind of
anomaly (`mishaps`). The rest is drawn.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from telemetry_svc.simulate import mishaps
from telemetry_svc.simulate.clauses import warranty_h
from telemetry_svc.simulate.faults import CRITICAL, FaultEpisode
from telemetry_svc.simulate.fleet import (
    GEOFENCE_RADIUS_M,
    MACHINES_PER_CUSTOMER,
    PLACES,
    Fleet,
    MachinePlan,
    build_fleet,
)
from telemetry_svc.simulate.script import Script
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.workday import MINE
from telemetry_svc.telemetry import EditionId, Geofence, MachineId
from telemetry_svc.units import Centihours

DEMO_MACHINES = 40
PAST_DAYS = 92
LIVE_DAYS = 30
# Long enough for the hours below, short enough that no date ends a warranty before the real registration.
DELIVERED_DAYS_BEFORE = 200
FAULT_AFTER_S = 600

ONE_ROUND = len(PLACES) * MACHINES_PER_CUSTOMER
WITH_CRITICAL_FAULT = (0, 4, 8)
NEVER_INSPECTED = range(1, ONE_ROUND, MACHINES_PER_CUSTOMER)
BEFORE_INSPECTION = (2, 6, 10, 14)
OUT_OF_WARRANTY = (ONE_ROUND, ONE_ROUND + 1)
WARRANTY_ENDS_SOON, INSPECTED = 18, 19
SCRIPTS = {
    20: mishaps.FALLING_SILENT,
    21: mishaps.WORSENING,
    22: mishaps.STORMING,
    23: mishaps.OVERHEATING,
    24: mishaps.RUNNING_DRY,
    25: mishaps.LYING,
    26: mishaps.LEAPING,
    27: mishaps.TOWED,
    28: mishaps.STRAYING,
    29: mishaps.AT_NIGHT,
}

SECONDS_EDITION = EditionId("demo-in-seconds")
"""Nobody watches a demo for 72 hours: the machine that falls silent has an edition in which these are seconds."""

QUIET_CH = 40_000
NEVER_INSPECTED_CH = 31_240
BEFORE_INSPECTION_CH = 24_950
OVER_WARRANTY_H = 25
UNDER_WARRANTY_H = 99


class Work(NamedTuple):
    """A visit that is reported once its machine has raised the fact (rule, subject, stage)."""

    machine_id: MachineId
    after: tuple[str, str, str]
    performed_at: datetime
    milestone_h: int | None = None
    checkup_no: int | None = None


def demo_works(fleet: Fleet) -> tuple[Work, ...]:
    """What the demo's experts do: a late inspection, which supersedes the one before it, and a yearly check-up."""
    at = fleet.spec.start + timedelta(hours=6)
    inspected, checked = (fleet.plans[index].machine.machine_id for index in (INSPECTED, OUT_OF_WARRANTY[0]))
    return (
        Work(inspected, ("inspection", "250", "due"), at, milestone_h=250),
        Work(checked, ("checkup", "1", "due"), at, checkup_no=1),
    )


def demo_fleet(seed: int, now: datetime) -> Fleet:
    """A fleet that starts 92 days before `now` (aware) and would go on for 30 days after it.

    Send a delivery once its `at` is past: run fast until then, and at the pace of the clock from there on, and no ping
    is ever dated ahead. All machines report within the first quarter of an hour of their past.
    """
    spec = FleetSpec(
        seed=seed,
        machines=DEMO_MACHINES,
        start=now - timedelta(days=PAST_DAYS),
        hours=(PAST_DAYS + LIVE_DAYS) * 24,
        duplicates=0.02,
        late=0.03,
        faults=0.02,
        ping_every_s=900,
        idle_every_s=7200,
        id_prefix="DEMO",
    )
    return Fleet(spec, tuple(_cast(spec, plan) for plan in build_fleet(spec).plans))


def _cast(spec: FleetSpec, plan: MachinePlan) -> MachinePlan:
    """Gives a leading part to the machine, by its index; the others stay as drawn."""
    if plan.index in WITH_CRITICAL_FAULT:
        return _broken(spec, plan)
    if plan.index in NEVER_INSPECTED or plan.index == INSPECTED:
        return _with_past(spec, plan, meter_ch=NEVER_INSPECTED_CH, initial_ch=0)
    if plan.index in BEFORE_INSPECTION:
        return _with_past(spec, plan, meter_ch=BEFORE_INSPECTION_CH, initial_ch=BEFORE_INSPECTION_CH)
    if plan.index in OUT_OF_WARRANTY:
        over_ch = (warranty_h(plan.machine.tonnage_t) + OVER_WARRANTY_H) * 100
        return _with_past(spec, plan, meter_ch=over_ch, initial_ch=0)
    if plan.index == WARRANTY_ENDS_SOON:
        under_ch = (warranty_h(plan.machine.tonnage_t) - UNDER_WARRANTY_H) * 100
        return _with_past(spec, plan, meter_ch=under_ch, initial_ch=under_ch)
    return _in_script(spec, plan, SCRIPTS[plan.index]) if plan.index in SCRIPTS else plan


def _in_script(spec: FleetSpec, plan: MachinePlan, script: Script) -> MachinePlan:
    """Nothing happens to it but its mishap: far from any inspection, and bound only to what the script needs."""
    machine = msgspec.structs.replace(plan.machine, geofence=None, permitted_hours=())
    faults: tuple[FaultEpisode, ...] = ()
    match script:
        case mishaps.FALLING_SILENT:
            machine = msgspec.structs.replace(machine, policy_edition=SECONDS_EDITION)
        case mishaps.STRAYING:
            fence = Geofence(plan.place.latitude_deg, plan.place.longitude_deg, GEOFENCE_RADIUS_M)
            machine = msgspec.structs.replace(machine, geofence=fence)
        case mishaps.AT_NIGHT:
            hours = mishaps.hours_that_end_soon(spec.start, machine.time_zone)
            machine = msgspec.structs.replace(machine, permitted_hours=hours)
        case mishaps.WORSENING:
            faults = (mishaps.worsening_fault(spec),)
        case mishaps.STORMING:
            faults = mishaps.storm_of_faults(spec)
        case _:
            pass
    plan = replace(plan, machine=machine, faults=faults, script=script)
    return _with_past(spec, plan, meter_ch=QUIET_CH, initial_ch=QUIET_CH)


def _broken(spec: FleetSpec, plan: MachinePlan) -> MachinePlan:
    """A critical code from the first working minutes on, and no end to it."""
    code = CRITICAL[WITH_CRITICAL_FAULT.index(plan.index)]
    return replace(plan, pattern=MINE, faults=(FaultEpisode(code, spec.start_s + FAULT_AFTER_S, spec.end_s),))


def _with_past(spec: FleetSpec, plan: MachinePlan, *, meter_ch: int, initial_ch: int) -> MachinePlan:
    delivered_on = spec.start.date() - timedelta(days=DELIVERED_DAYS_BEFORE)
    machine = msgspec.structs.replace(plan.machine, delivered_on=delivered_on, initial_ch=Centihours(initial_ch))
    return replace(plan, machine=machine, meter_ch=meter_ch)
