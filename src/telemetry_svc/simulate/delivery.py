"""How pings reach the broker: most of them at once, some twice, some after an outage and then newest first.

Lazy all the way down: each machine's pings are held back, repeated and merged one at a time, so half a million cost
the memory of one outage per machine. What is sent depends on the fleet alone; the ways of delivery have dice of their
own, so the same fleet with and without lateness sends the same pings.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import merge
from random import Random
from typing import NamedTuple

from telemetry_svc.simulate.fleet import Fleet, MachinePlan
from telemetry_svc.simulate.pings import EPOCH, PingJson, Sent, machine_pings
from telemetry_svc.simulate.spec import FleetSpec

SHORTEST_OUTAGE, LONGEST_OUTAGE = 2, 12
BACKLOG_STEP_MS = 20
REPEAT_AFTER_MS = 5


class Delivery(NamedTuple):
    """A ping as the broker gets it at the moment `at` (UTC). `meter_true`: its meter is no planned spike."""

    at: datetime
    machine_id: str
    ping: PingJson
    meter_true: bool = True


_Arrival = tuple[int, Sent]


def iter_deliveries(fleet: Fleet) -> Iterator[Delivery]:
    """Every delivery of the fleet in the order of the broker. A ping is never dated after its delivery, save the
    planned ones of 2038. The JSON objects are the caller's own, except that a repeat is the same object again.
    """
    return merge(*(machine_deliveries(fleet.spec, plan) for plan in fleet.plans))


def machine_deliveries(spec: FleetSpec, plan: MachinePlan) -> Iterator[Delivery]:
    """The deliveries of one machine, each later than the one before."""
    arrivals = _after_outages(machine_pings(spec, plan), spec, plan)
    repeated = _with_repeats(arrivals, spec.duplicates, spec.random(plan.index, "repeats"))
    machine_id = plan.machine.machine_id
    for at_ms, sent in repeated:
        yield Delivery(EPOCH + timedelta(milliseconds=at_ms), machine_id, sent.ping, sent.meter_true)


def _after_outages(pings: Iterator[Sent], spec: FleetSpec, plan: MachinePlan) -> Iterator[_Arrival]:
    """Holds runs of 2 to 12 pings back until the last of them, which then comes first and on time.

    A machine's first ping is never held: it is put into service where there is a network. Nor is a script.
    """
    rng, chance = spec.random(plan.index, "outages"), _outage_chance(spec.late)
    held: list[Sent] = []
    wanted = 0
    for number, sent in enumerate(pings):
        if number and not wanted and not sent.scripted and rng.random() < chance:
            wanted = rng.randint(SHORTEST_OUTAGE, LONGEST_OUTAGE)
        if not wanted:
            yield sent.at_s * 1000 + plan.latency_ms, sent
            continue
        held.append(sent)
        if len(held) == wanted:
            yield from _newest_first(held, plan.latency_ms)
            held, wanted = [], 0
    yield from _newest_first(held, plan.latency_ms)


def _newest_first(held: list[Sent], latency_ms: int) -> Iterator[_Arrival]:
    for step, sent in enumerate(reversed(held)):
        yield held[-1].at_s * 1000 + latency_ms + step * BACKLOG_STEP_MS, sent


def _outage_chance(late: float) -> float:
    """The chance per ping at which outages of n pings, n - 1 of them late, make the wanted share of late ones."""
    late_per_outage = (SHORTEST_OUTAGE + LONGEST_OUTAGE) / 2 - 1
    return late / (late_per_outage * (1 - late))


def _with_repeats(arrivals: Iterator[_Arrival], share: float, rng: Random) -> Iterator[_Arrival]:
    """Sends a share again, exactly: half of them at once, half after the machine's next ping."""
    waiting: Sent | None = None
    at_ms = 0
    for at_ms, sent in arrivals:
        yield at_ms, sent
        if waiting is not None:
            yield at_ms + REPEAT_AFTER_MS, waiting
            waiting = None
        if share and rng.random() < share:
            if rng.random() < 0.5:
                yield at_ms + 2 * REPEAT_AFTER_MS, sent
            else:
                waiting = sent
    if waiting is not None:
        yield at_ms + 3 * REPEAT_AFTER_MS, waiting
