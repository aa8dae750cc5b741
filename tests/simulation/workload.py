"""What the outside world sends in one life: machines, their pings in the order in which they arrive, and commands.

Most readings agree with each other, so that they must decide the same in any order. Some lives hold what does not: a
meter that jumps, a record that is no ping, a value that PostgreSQL refuses.
"""

import json
import random
import uuid
from datetime import date, datetime, timedelta
from typing import Any

from msgspec import Struct

from telemetry_svc.telemetry import (
    Command,
    EditionId,
    InspectionDone,
    Machine,
    MachineId,
    MeterDecision,
    Registration,
)
from telemetry_svc.units import Centihours
from tests.simulation.virtual_time import START

REFUSED_DEVICE = "refused-by-postgresql"
"""A ping of this device decodes well, and the simulated server takes it for a value that it does not store."""

EDITION = EditionId("zoomlion-2011-rev1")
SENDING_S = 18.0
_ENDS_TODAY = date(2025, 5, 21)
"""Delivered then, the 18 months of a machine over 20 t end ten seconds after the beginning of a life."""


class Sent(Struct, frozen=True):
    """A record of a device. `at_s` after the beginning; `key` is None where it has none."""

    at_s: float
    key: bytes | None
    value: bytes
    after_registration_of: MachineId | None = None


class Errand(Struct, frozen=True):
    """A command that the office gives at `at_s`; a registration brings `contacts` phone numbers with it."""

    at_s: float
    command: Command
    contacts: int = 0


class BadRule(Struct, frozen=True):
    """From one moment to another the rules raise at whatever comes of this machine, save that time passes."""

    machine_id: MachineId
    from_s: float
    to_s: float


class Workload(Struct, frozen=True):
    """`agreeing`: machines whose readings must decide the same in any order."""

    sent: list[Sent]
    errands: list[Errand]
    agreeing: frozenset[MachineId]
    experts: int
    bad_rule: BadRule | None


def draw_workload(rng: random.Random, *, busy: bool) -> Workload:
    """One life's worth: one to three machines, mostly with a few pings of each, a dozen in a `busy` one."""
    sent: list[Sent] = []
    errands: list[Errand] = []
    agreeing = set()
    most = 12 if busy else rng.choice((2, 3, 4, 8))
    for number in range(rng.choice((1, 1, 2, 3))):
        machine = _machine(rng, MachineId(f"SIM-{rng.choice((0, 1, 4, 5)) + 10 * number:03d}"), number)
        pings = _readings(rng, machine, rng.randint(most // 2, most))
        registration = _registration(rng, machine)
        errands.append(registration)
        if rng.random() < 0.6:
            agreeing.add(machine.machine_id)
        else:
            errands += _disturb(rng, machine, pings, registration.at_s)
        sent += _arrivals(rng, machine.machine_id, pings)
    bad_rule = _bad_rule(rng, errands)
    sent += _rubbish(rng, [errand.command for errand in errands], bad_rule)
    sent.sort(key=lambda one: one.at_s)
    errands.sort(key=lambda one: one.at_s)
    return Workload(sent, errands, frozenset(agreeing), rng.choice((0, 0, 0, 0, 0, 1, 2)), bad_rule)


def _bad_rule(rng: random.Random, errands: list[Errand]) -> BadRule | None:
    if rng.random() > 0.15:
        return None
    victim = rng.choice([one.command.machine.machine_id for one in errands if isinstance(one.command, Registration)])
    from_s = rng.uniform(0, 12)
    return BadRule(victim, from_s, min(from_s + rng.uniform(1, 12), SENDING_S))


def _machine(rng: random.Random, machine_id: MachineId, number: int) -> Machine:
    return Machine(
        machine_id=machine_id,
        tonnage_t=22.5,
        policy_edition=EDITION,
        delivered_on=_ENDS_TODAY if number == 0 else None,
        initial_ch=Centihours(rng.choice((0, 0, 20_000, 240_000))),
    )


def _readings(rng: random.Random, machine: Machine, count: int) -> list[dict[str, Any]]:
    """In order of their time; some with a fault code, the next ones without."""
    at = START - timedelta(days=rng.randint(150, 300))
    hours_ch = int(machine.initial_ch) + rng.randint(0, 500)
    pings, most_days = [], min(24, 144 // count)  # none in the future
    for sequence in range(count):
        ping: dict[str, Any] = {
            "machine_id": machine.machine_id,
            "recorded_at": at.isoformat().replace("+00:00", "Z"),
            "hour_meter_h": hours_ch / 100,
            "sequence": sequence,
        }
        if rng.random() < 0.5:
            ping["faults"] = [{"spn": 110, "fmi": 0, "lamp": "red_stop"}] if rng.random() < 0.5 else []
        pings.append(ping)
        days = rng.randint(1, most_days)
        at += timedelta(days=days, seconds=rng.randint(0, 3600))
        hours_ch += days * rng.randint(200, 1100)
    return pings


def _disturb(rng: random.Random, machine: Machine, pings: list[dict[str, Any]], registered_s: float) -> list[Errand]:
    """A leap of the meter, and what people do about machines once they are registered."""
    if rng.random() < 0.5:
        pings[rng.randrange(len(pings))]["hour_meter_h"] += 9_000
    at_s = rng.uniform(registered_s + 0.1, SENDING_S)
    if rng.random() < 0.5:
        done = InspectionDone(_new_id(rng), machine.machine_id, START, START, milestone_h=rng.choice((50, 250, 500)))
        return [Errand(at_s, done)]
    decision = MeterDecision(_new_id(rng), machine.machine_id, rng.choice(("accept", "reject", "replaced")), START)
    return [Errand(at_s, decision)]


def _registration(rng: random.Random, machine: Machine) -> Errand:
    at_s = rng.choice((0.1, 0.1, rng.uniform(0.1, 10)))
    return Errand(at_s, Registration(_new_id(rng), machine, START, START), rng.choice((0, 1, 1, 2)))


def _arrivals(rng: random.Random, machine_id: MachineId, pings: list[dict[str, Any]]) -> list[Sent]:
    """In order for the most part; some late, some twice."""
    at_s, arrivals, pace_s = rng.uniform(0.2, 6), [], rng.choice((0.3, 1, 3))
    for ping in pings:
        at_s += rng.expovariate(1 / pace_s)
        late_s = rng.uniform(0.5, 8) if rng.random() < 0.2 else 0.0
        value = json.dumps(ping).encode()
        arrivals.append(Sent(min(at_s + late_s, SENDING_S), machine_id.encode(), value))
        if rng.random() < 0.15:
            again_s = min(at_s + late_s + rng.uniform(0, 6), SENDING_S)
            arrivals.append(Sent(again_s, machine_id.encode(), value))
    return arrivals


def _rubbish(rng: random.Random, commands: list[Command], bad_rule: BadRule | None) -> list[Sent]:
    """Records that must become one dead letter each and hold nobody up.

    Not of a machine that is parked: behind a value that PostgreSQL refuses it waits for a person.
    """
    found = []
    known = [one.machine.machine_id for one in commands if isinstance(one, Registration)]
    victim = rng.choice(known)
    if rng.random() < 0.3:
        found.append(Sent(rng.uniform(0.5, SENDING_S), victim.encode(), b"\xff{"))
    if rng.random() < 0.3:
        found.append(Sent(rng.uniform(0.5, SENDING_S), b"SIM-999", _ping_of("SIM-999", START)))
    if rng.random() < 0.3:
        found.append(Sent(rng.uniform(0.5, SENDING_S), b"SIM-998", _ping_of(victim, START)))
    if rng.random() < 0.3 and bad_rule is None:
        value = _ping_of(victim, START - timedelta(days=rng.randint(10, 100)), device_id=REFUSED_DEVICE)
        found.append(Sent(rng.uniform(5, SENDING_S), victim.encode(), value, after_registration_of=victim))
    return found


def _ping_of(machine_id: str, at: datetime, **fields: Any) -> bytes:
    recorded_at = at.isoformat().replace("+00:00", "Z")
    ping = {"machine_id": machine_id, "recorded_at": recorded_at, "engine_running": True}
    return json.dumps(ping | fields).encode()


def _new_id(rng: random.Random) -> uuid.UUID:
    return uuid.UUID(int=rng.getrandbits(128), version=4)
