"""One run of chaos: a fleet, a plan, faults, traffic and people at once, healing, the drain, the comparison."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from tests.chaos.arena import Arena, Servers, arena_in
from tests.chaos.clerk import Clerk, late_ones
from tests.chaos.expect import Said, fleet_of, journal_of
from tests.chaos.nemesis import Nemesis
from tests.chaos.observe import drained, observed
from tests.chaos.office import Office
from tests.chaos.plan import Fault, Kind, Scale, expected_s
from tests.chaos.report import Known, Met, Outcome
from tests.chaos.traffic import JournalBook, Pace, Traffic, producer_of

EXPERTS = 4
DRAIN_WITHIN_S = 120.0
SETTLED_WITHIN_S = 30.0
PATIENCE_S = 900.0
SAID_WITHIN = 0.6
"""The share of the storm in which the clerk has his say."""


async def run(
    servers: Servers,
    seed: int,
    scale: Scale,
    faults: Sequence[Fault],
    evidence: Path,
    build: str | None = None,
    drain_within_s: float = DRAIN_WITHIN_S,
) -> Outcome:
    """Carries the plan out and compares. Whatever goes wrong is part of the outcome."""

    async def live(known: Known) -> None:
        async with asyncio.timeout(PATIENCE_S + 4 * expected_s(faults)):
            await _live(known, servers, scale, drain_within_s)

    return await told_of(Known(seed, tuple(faults), scale.need, evidence, build), live)


async def told_of(known: Known, live: Callable[[Known], Awaitable[None]]) -> Outcome:
    """Lives it and tells of it, with the evidence kept; a failure on the way is told like a finding."""
    began = time.monotonic()
    known.begin()
    with known.told("the run"):
        await live(known)
    outcome = known.outcome(time.monotonic() - began)
    known.keep(outcome)
    return outcome


async def _live(known: Known, servers: Servers, scale: Scale, drain_within_s: float) -> None:
    await servers.start()
    async with arena_in(servers, known.evidence / "logs", known.build) as arena:
        known.met = lambda: _met(arena, known)
        try:
            await _live_in(arena, known, scale, drain_within_s)
            await arena.crew.end()
        finally:
            known.wrongs += arena.crew.wrongs


async def _live_in(arena: Arena, known: Known, scale: Scale, drain_within_s: float) -> None:
    await arena.complete()
    registered_at = datetime.now(UTC)
    fleet = fleet_of(known.seed, scale, registered_at)
    deliveries = list(islice(iter_deliveries(fleet), scale.pings))
    assert len(deliveries) == scale.pings, f"the fleet has only {len(deliveries)} pings to send"
    late = late_ones(fleet)
    await arena.register(replace(fleet, plans=tuple(plan for plan in fleet.plans if plan not in late)))
    await arena.settled(SETTLED_WITHIN_S)
    office = Office(lambda: arena.address("api"), arena.key, known.seed)
    clerk = Clerk(lambda: arena.address("api"), arena.key, fleet, SAID_WITHIN * expected_s(known.faults))
    with contextlib.closing(JournalBook(known.evidence / "journal.jsonl")) as book:
        known.sent = book.entries
        with known.told("the storm"):
            await _storm(arena, known, scale, deliveries, book, Said(office, clerk))
    await arena.heal()
    known.seen = await observed(arena.servers, await drained(arena.servers, drain_within_s))
    known.journal = journal_of(fleet, deliveries, book.entries(), known.seen, Said(office, clerk), registered_at)


def _met(arena: Arena, known: Known) -> Met:
    return Met(
        kills_in_transaction=known.tally.struck[Kind.KILL_IN_TRANSACTION],
        redelivered=arena.crew.sum("redelivered_records"),
        fenced=arena.crew.sum("fenced_batches"),
        in_doubt=arena.cutter.cuts,
    )


async def _storm(
    arena: Arena, known: Known, scale: Scale, deliveries: list[Delivery], book: JournalBook, said: Said
) -> None:
    """Traffic and people while the faults strike; returns when every ping is acknowledged and every command taken."""
    pace = Pace(scale.pings, expected_s(known.faults))
    nemesis = Nemesis(arena, pace, known.need, scale.more_tries)
    known.tally = nemesis.tally
    producer = producer_of(arena.servers.kafka)
    traffic = Traffic(producer, lambda: arena.address("gateway"), arena.key, book, pace)
    try:
        async with producer, asyncio.TaskGroup() as group:
            working = group.create_task(said.office.work(EXPERTS))
            striking = group.create_task(nemesis.carry_out(known.faults))
            striking.add_done_callback(lambda _: pace.hurry())
            told = [group.create_task(said.clerk.work()), group.create_task(traffic.send(deliveries))]
            await asyncio.wait([striking, *told])
            working.cancel()
    finally:
        known.wrongs += nemesis.wrongs
