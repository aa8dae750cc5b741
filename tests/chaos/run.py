"""One run of chaos: a fleet, a plan, faults and traffic at once, healing, the drain, the comparison, the report."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import truth
from tests.chaos.arena import Arena, Servers, arena_in
from tests.chaos.compare import compare, missing_parts
from tests.chaos.nemesis import Nemesis, Tally
from tests.chaos.observe import drained, observed
from tests.chaos.office import Office
from tests.chaos.plan import Fault, Need, Scale, expected_s
from tests.chaos.records import Figures, Hours, Journal, Observed, Sent
from tests.chaos.traffic import JournalBook, Pace, Traffic, digest_of, key_of

log = structlog.get_logger(__name__)

EXPERTS = 4
DRAIN_WITHIN_S = 120.0
SETTLED_WITHIN_S = 30.0
PATIENCE_S = 900.0
FUTURE_AFTER = timedelta(minutes=5)
PINGS_PER_MACHINE_AND_DAY = 45


class MissingPart(RuntimeError):
    """A part of the run did nothing, so nothing is known of it. The text names it."""


class Met(Struct, frozen=True):
    """What a run has met; whether it counts is decided by this."""

    kills_in_transaction: int
    redelivered: int
    fenced: int
    in_doubt: int

    def is_enough(self, need: Need) -> bool:
        return all(getattr(self, name) >= getattr(need, name) for name in need.__struct_fields__)


class Outcome(Struct, frozen=True):
    """What came of a run. `evidence`: the folder that holds all that was known of it."""

    seed: int
    figures: Figures
    met: Met
    need: Need
    tally: Tally
    acknowledged: int
    repeats_on_the_wire: int
    took_s: float
    evidence: Path
    build: str | None = None

    @property
    def exit_code(self) -> int:
        """0 all promises kept, 1 broken, 3 inconclusive: all was well, but too little had gone wrong."""
        if not self.figures.clean:
            return 1
        return 0 if self.met.is_enough(self.need) else 3

    def lines(self) -> list[str]:
        """The report: seed, one line per figure, what was met, where the evidence is."""
        verdict = {0: "all promises kept", 1: "BROKEN", 3: "inconclusive"}[self.exit_code]
        met = [
            f"{name.replace('_', ' '):<22} {getattr(self.met, name)} (at least {getattr(self.need, name)})"
            for name in self.met.__struct_fields__
        ]
        return [
            f"{'seed':<22} {self.seed}" + (f", broken build {self.build}" if self.build else ""),
            *(f"{name:<22} {count}" for name, count in self.figures.counts().items()),
            *met,
            f"{'pings acknowledged':<22} {self.acknowledged}",
            f"{'repeats on the wire':<22} {self.repeats_on_the_wire}",
            f"{'done to it':<22} {self.tally.kills} SIGKILLs, {self.tally.sessions_ended} sessions ended, "
            f"{self.tally.outages} outages, {self.tally.stops} sleepers, {self.tally.missed} faults that met nobody",
            f"{'took':<22} {self.took_s:.0f} s",
            f"{'verdict':<22} {verdict}" + ("" if self.exit_code == 0 else f"; evidence in {self.evidence}"),
        ]


async def run(
    servers: Servers,
    seed: int,
    scale: Scale,
    faults: Sequence[Fault],
    evidence: Path,
    build: str | None = None,
    drain_within_s: float = DRAIN_WITHIN_S,
) -> Outcome:
    """Carries the plan out and compares. Raises where a part of it is missing: then the run has failed."""
    began = time.monotonic()
    evidence.mkdir(parents=True, exist_ok=True)
    async with asyncio.timeout(PATIENCE_S + 4 * expected_s(faults)):
        came = await _came_of(servers, seed, scale, faults, evidence, build, drain_within_s)
    outcome = Outcome(
        seed=seed,
        figures=compare(came.journal, came.seen),
        met=came.met,
        need=scale.need,
        tally=came.tally,
        acknowledged=sum(one.acknowledged for one in came.journal.sent),
        repeats_on_the_wire=len(came.seen.alerts) - len(set(came.seen.alerts)),
        took_s=time.monotonic() - began,
        evidence=evidence,
        build=build,
    )
    _keep(outcome, faults, came)
    missing = missing_parts(came.journal, came.seen)
    if build is None and missing:
        raise MissingPart(f"nothing came of: {', '.join(missing)}; evidence in {evidence}")
    return outcome


class _Came(Struct, frozen=True):
    """Both sides of the comparison, and what was met and done on the way."""

    journal: Journal
    seen: Observed
    met: Met
    tally: Tally


async def _came_of(
    servers: Servers,
    seed: int,
    scale: Scale,
    faults: Sequence[Fault],
    evidence: Path,
    build: str | None,
    drain_within_s: float,
) -> _Came:
    async with arena_in(servers, evidence / "logs", build) as arena:
        await arena.complete()
        registered_at = datetime.now(UTC)
        fleet = build_fleet(fleet_of(seed, scale, registered_at))
        deliveries = list(islice(iter_deliveries(fleet), scale.pings))
        assert len(deliveries) == scale.pings, f"the fleet has only {len(deliveries)} pings to send"
        await arena.register(fleet)
        await arena.settled(SETTLED_WITHIN_S)
        office = Office(lambda: arena.address("api"), arena.key, seed)
        with contextlib.closing(JournalBook(evidence / "journal.jsonl")) as book:
            nemesis = await _storm(arena, scale, faults, deliveries, book, office)
        await arena.heal()
        stuck = await drained(servers, drain_within_s)
        seen = await observed(servers, (*stuck, *(f"{name} has ended" for name in arena.crew.fallen())))
        journal = _journal(fleet, deliveries, book.entries(), seen, office, registered_at)
        met = Met(
            kills_in_transaction=nemesis.tally.kills_in_transaction,
            redelivered=arena.crew.sum("redelivered_records"),
            fenced=arena.crew.sum("fenced_batches"),
            in_doubt=arena.cutter.cuts,
        )
        left = await arena.crew.end()
        assert set(left.values()) == {0}, f"exit codes at the end: {left}"
    return _Came(journal, seen, met, nemesis.tally)


async def _storm(
    arena: Arena, scale: Scale, faults: Sequence[Fault], deliveries: list[Delivery], book: JournalBook, office: Office
) -> Nemesis:
    """Traffic and experts while the faults strike; returns when every ping is acknowledged."""
    pace = Pace(scale.pings, expected_s(faults))
    nemesis = Nemesis(arena, pace, scale.need)
    traffic = Traffic(arena.servers.kafka, lambda: arena.address("gateway"), arena.key, book, pace)
    working = asyncio.create_task(office.work(EXPERTS))
    sending = asyncio.create_task(traffic.send(deliveries))
    striking = asyncio.create_task(nemesis.carry_out(faults))
    try:
        await asyncio.wait([sending, striking], return_when=asyncio.FIRST_COMPLETED)
        await striking
        pace.hurry()
        await sending
    finally:
        for task in (working, sending, striking):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    return nemesis


def fleet_of(seed: int, scale: Scale, now: datetime) -> FleetSpec:
    """A fleet that lived in the past, the same at any hour of a day; all that it sends arrives now."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = 2 + scale.pings // (scale.machines * PINGS_PER_MACHINE_AND_DAY) * 2
    return FleetSpec(
        seed=seed,
        machines=scale.machines,
        start=midnight - timedelta(days=days + 1),
        hours=days * 24,
        duplicates=0.05,
        late=0.1,
        faults=3.0,
        clock_faults=scale.machines // 10,
        meter_spikes=scale.machines // 10,
        ping_every_s=900,
    )


def _journal(
    fleet: Fleet,
    deliveries: Sequence[Delivery],
    sent: tuple[Sent, ...],
    seen: Observed,
    office: Office,
    registered_at: datetime,
) -> Journal:
    """What must have come of it, judged by the order that the broker's log has."""
    encode = msgspec.json.Encoder().encode
    by_digest = {digest_of(encode(one.ping)): one for one in deliveries}
    logged = [by_digest[one.digest] for one in seen.log if one.digest in by_digest]
    now = datetime.now(UTC)
    must, may = (
        truth(fleet.machines, logged, registered_at=registered_at, until=until) for until in (registered_at, now)
    )
    return Journal(sent, tuple(must), tuple(may), remembered(logged, registered_at), tuple(office.leases))


def remembered(logged: Sequence[Delivery], received_at: datetime) -> dict[str, Hours]:
    """What each machine's readings leave behind: the newest instant, and the highest true hours not dated ahead."""
    found: dict[str, Hours] = {}
    for one in logged:
        _, recorded_at, meter_ch, _, _ = key_of(one)
        before = found.get(one.machine_id, Hours(recorded_at, None))
        counts = meter_ch is not None and one.meter_true and recorded_at <= received_at + FUTURE_AFTER
        true_ch = max(meter_ch or 0, before.true_ch or 0) if counts else before.true_ch
        found[one.machine_id] = Hours(max(before.newest, recorded_at), true_ch)
    return found


def _keep(outcome: Outcome, faults: Sequence[Fault], came: _Came) -> None:
    """What a person needs to find the cause: the plan, the findings, both sides of the comparison."""
    findings = {name: getattr(outcome.figures, name) for name in outcome.figures.counts()}
    for name, what in {
        "plan": faults,
        "findings": findings,
        "expected": came.journal,
        "observed": came.seen,
    }.items():
        encoded = msgspec.json.format(msgspec.json.encode(what, enc_hook=str), indent=1)
        (outcome.evidence / f"{name}.json").write_bytes(encoded)
    (outcome.evidence / "report.txt").write_text("\n".join(outcome.lines()) + "\n", encoding="utf-8")
    log.info("run ended", **outcome.figures.counts())
