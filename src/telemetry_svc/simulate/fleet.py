"""Draws the machines of a fleet: who owns them, where they work, what they ran before, what will go wrong.

A fleet is frozen and small (one plan per machine); the pings are made from it one by one. Tonnages stand on both sides
of every bracket of the policy, meters stand shortly before a milestone or a warranty limit, and owners live around the
world, so that at any hour it is day for some of them. Everything personal is invented: the numbers are in country code
999, which is assigned to nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import NamedTuple

from telemetry_svc.simulate.clauses import EDITIONS, MILESTONES_H, STRUCTURE_H, warranty_h, warranty_months
from telemetry_svc.simulate.faults import FaultEpisode, plan_faults
from telemetry_svc.simulate.script import Script
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.workday import PATTERNS, WorkPattern
from telemetry_svc.telemetry import EditionId, Geofence, Machine, MachineId, PermittedHours
from telemetry_svc.units import Centihours, hours_from

TONNAGES_T = (21.5, 12.9, 20.0, 13.0, 19.9, 30.0, 20.1, 29.9, 6.0, 36.0, 48.5)
MACHINES_PER_CUSTOMER = 2
EXPERTS = ("expert-01", "expert-02", "expert-03", "expert-04", "expert-05")
GEOFENCE_RADIUS_M = 1500.0
HOURS_PER_CALENDAR_DAY = 8
SEND_LATENCY_MS = (800, 4000)
TIMESTAMP_SUFFIXES = ("Z", "Z", ".250Z", "+08:00")


class Place(NamedTuple):
    """Where a customer works: `team` is who serves him."""

    time_zone: str
    team: str
    latitude_deg: float
    longitude_deg: float


SHANGHAI = Place("Asia/Shanghai", "team-central", 28.228, 112.939)
PLACES = (
    SHANGHAI,
    Place("Africa/Lagos", "team-overseas", 6.45, 3.40),
    Place("America/Los_Angeles", "team-overseas", 34.05, -118.24),
    SHANGHAI,
    Place("Pacific/Auckland", "team-overseas", -36.85, 174.76),
    Place("America/Sao_Paulo", "team-overseas", -23.55, -46.63),
    SHANGHAI,
    Place("Asia/Dubai", "team-overseas", 25.20, 55.27),
)


class Customer(NamedTuple):
    """An owner, invented. `phone` is E.164 in country code 999, which no network serves."""

    customer_id: str
    name: str
    phone: str


class Past(NamedTuple):
    """What a machine brings along: its meter when the fleet starts and what its registration says of it."""

    meter_ch: int
    initial_ch: int
    delivered_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """One machine and its life to come. `meter_ch` is what its meter shows at the start; `machine` its registration.

    `timestamp_suffix`: how its device writes the end of `recorded_at`; `numbered`: whether it sends `sequence`;
    `clock_year`: the year to which its clock sometimes falls; `spikes`: whether its meter sometimes does;
    `script`: what it goes through first.
    """

    index: int
    machine: Machine
    model: str
    device_id: str
    expert_id: str | None
    place: Place
    customer: Customer
    pattern: WorkPattern
    meter_ch: int
    faults: tuple[FaultEpisode, ...]
    latency_ms: int
    timestamp_suffix: str
    numbered: bool
    clock_year: int | None = None
    spikes: bool = False
    script: Script | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines drawn for a spec."""

    spec: FleetSpec
    plans: tuple[MachinePlan, ...]

    @property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(plan.machine for plan in self.plans)

    def registrations(self) -> list[dict[str, object]]:
        """Machine v1 objects for `POST /v1/machines`, in the order of the plans."""
        return [registration(plan) for plan in self.plans]


def build_fleet(spec: FleetSpec) -> Fleet:
    """The fleet of a spec; the same for ever."""
    return Fleet(spec, tuple(_plan(spec, index) for index in range(spec.machines)))


def registration(plan: MachinePlan) -> dict[str, object]:
    """The machine as a Machine v1 object (contract.md); fields that do not apply are absent."""
    machine = plan.machine
    fields: dict[str, object | None] = {
        "machine_id": machine.machine_id,
        "tonnage_t": machine.tonnage_t,
        "model": plan.model,
        "delivered_on": machine.delivered_on.isoformat() if machine.delivered_on else None,
        "time_zone": machine.time_zone,
        "policy_edition": machine.policy_edition,
        "initial_hours_h": hours_from(machine.initial_ch),
        "device_ids": [plan.device_id],
        "expert_id": plan.expert_id,
        "team_id": plan.place.team,
        "customer_id": plan.customer.customer_id,
        "customer_name": plan.customer.name,
        "customer_phone": plan.customer.phone,
        "geofence": _geofence_json(machine.geofence),
        "permitted_hours": _permitted_json(machine.permitted_hours),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _geofence_json(fence: Geofence | None) -> dict[str, object] | None:
    if fence is None:
        return None
    return {"latitude_deg": fence.latitude_deg, "longitude_deg": fence.longitude_deg, "radius_m": fence.radius_m}


def _permitted_json(windows: Sequence[PermittedHours]) -> list[dict[str, object]] | None:
    return [{"days": list(window.days), "from": window.from_, "to": window.to} for window in windows] or None


def _plan(spec: FleetSpec, index: int) -> MachinePlan:
    rng = spec.random(index, "plan")
    customer_no = index // MACHINES_PER_CUSTOMER
    place = _near(PLACES[customer_no % len(PLACES)], rng)
    pattern = rng.choice(PATTERNS)
    machine, meter_ch, model = _machine(spec, index, place, pattern, rng)
    return MachinePlan(
        index=index,
        machine=machine,
        model=model,
        device_id=f"999{index:012d}",
        expert_id=EXPERTS[customer_no % len(EXPERTS)] if index % 10 != 9 else None,
        place=place,
        customer=_customer(spec, customer_no, place),
        pattern=pattern,
        meter_ch=meter_ch,
        faults=plan_faults(spec, spec.random(index, "faults")),
        latency_ms=rng.randrange(*SEND_LATENCY_MS),
        timestamp_suffix=rng.choice(TIMESTAMP_SUFFIXES),
        numbered=rng.random() < 0.8,
        clock_year=(2011, 2038)[index % 2] if index < spec.clock_faults else None,
        spikes=spec.machines - index <= spec.meter_spikes,
    )


def _machine(spec: FleetSpec, index: int, place: Place, pattern: WorkPattern, rng: Random) -> tuple[Machine, int, str]:
    """The registration, the meter at the start and the model. Each tonnage occurs under each edition."""
    tonnage_t = TONNAGES_T[index % len(TONNAGES_T)]
    model = f"{spec.id_prefix}{round(tonnage_t * 10):03d}"
    past = _past(spec, tonnage_t, rng)
    machine = Machine(
        machine_id=MachineId(f"{model}-{index:06d}"),
        tonnage_t=tonnage_t,
        policy_edition=EditionId(EDITIONS[index % len(EDITIONS)]),
        time_zone=place.time_zone,
        delivered_on=past.delivered_on,
        initial_ch=Centihours(past.initial_ch),
        customer_id=_customer_id(spec, index // MACHINES_PER_CUSTOMER),
        geofence=Geofence(place.latitude_deg, place.longitude_deg, GEOFENCE_RADIUS_M) if index % 3 == 0 else None,
        permitted_hours=_permitted(pattern) if index % 4 == 0 else (),
    )
    return machine, past.meter_ch, model


def _permitted(pattern: WorkPattern) -> tuple[PermittedHours, ...]:
    """Every day of the week: what a machine does on its rest days is not forbidden, it just does nothing."""
    return (PermittedHours(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), *pattern.permitted),)


def _near(place: Place, rng: Random) -> Place:
    """A site within some 30 km of the place."""
    return place._replace(
        latitude_deg=round(place.latitude_deg + rng.uniform(-0.3, 0.3), 5),
        longitude_deg=round(place.longitude_deg + rng.uniform(-0.3, 0.3), 5),
    )


def _customer_id(spec: FleetSpec, customer_no: int) -> str:
    return f"{spec.id_prefix}-customer-{customer_no:05d}"


def _customer(spec: FleetSpec, customer_no: int, place: Place) -> Customer:
    in_china = place.time_zone == SHANGHAI.time_zone
    name = f"示例土方工程{customer_no:05d}号" if in_china else f"Example Earthworks {customer_no:05d}"
    return Customer(_customer_id(spec, customer_no), name, f"+99900{customer_no:07d}")


def _past(spec: FleetSpec, tonnage_t: float, rng: Random) -> Past:
    """Three kinds: fresh from the works, shortly before a number of hours, shortly before a warranty date."""
    start_day = spec.start.date()
    kind = rng.random()
    if kind < 0.25:
        days = rng.randrange(20)
        return Past(days * HOURS_PER_CALENDAR_DAY * 50, 0, start_day - timedelta(days=days))
    if kind < 0.40:
        return _before_a_date(spec, tonnage_t, rng)
    return _before_an_edge(spec, tonnage_t, rng)


def _before_an_edge(spec: FleetSpec, tonnage_t: float, rng: Random) -> Past:
    """The meter reaches an edge within the run, where the machine works a third of it; some never told their past."""
    edge_h = rng.choice((*MILESTONES_H, warranty_h(tonnage_t), STRUCTURE_H))
    meter_ch = max(int((edge_h - rng.random() * spec.hours / 3) * 100), 0)
    age_days = meter_ch // (100 * HOURS_PER_CALENDAR_DAY) + rng.randrange(1, 60)
    delivered_on = spec.start.date() - timedelta(days=age_days) if rng.random() < 0.8 else None
    return Past(meter_ch, meter_ch if rng.random() < 0.6 else 0, delivered_on)


def _before_a_date(spec: FleetSpec, tonnage_t: float, rng: Random) -> Past:
    """The calendar ends the warranty within the run, or opens its last 30 days, of a machine with few hours."""
    last_day = (spec.start + timedelta(hours=rng.random() * spec.hours, days=rng.choice((0, 0, 30)))).date()
    delivered_on = _months_before(last_day, warranty_months(tonnage_t))
    meter_ch = rng.randrange(30_000, 120_000)
    return Past(meter_ch, meter_ch if rng.random() < 0.6 else 0, delivered_on)


def _months_before(day: date, months: int) -> date:
    """The 1st to 28th of a month some months earlier."""
    year, month0 = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month0 + 1, min(day.day, 28))
