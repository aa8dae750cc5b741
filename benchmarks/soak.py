"""`make soak`: whether a process's memory grows while the service does twice its usual work (faults.md, 47).

Usual is 5 000 machines, the most that are spoken of as one fleet, each with a ping a minute, as a working machine sends
them: 83 pings/s. Twice that come in for so many minutes, on a real broker and database, each role a process of its own,
while people look, listen, claim calls and report inspections, all of them more often than twice as usual.

With `--ping-every-s 14400` the pings of a machine lie hours apart instead, so that weeks of the fleet pass by and facts
and calls come hundreds of times as often: what grows with them shows. The first half hour of the fleet, then the first
month, is read by processes that end before: all machines have been heard, what a state remembers is full, and no memory
was freed in which growth would not show.

Exit code 0: every process grows by less than 1 MB/h; 1: one does not, or ended; 3: that cannot be told.
"""

import argparse
import asyncio
import csv
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psutil
from msgspec import Struct

from benchmarks.slope import Growth, Reading, Verdict, growth
from benchmarks.soak_world import People, Pings
from telemetry_svc.cli.demo_view import Snapshot, snapshot
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from tests.chaos.arena import Arena, arena_in, temporary_servers
from tests.chaos.office import Office

LIMIT_PER_H = 1.0
USUAL_MACHINES = 5_000
USUAL_EVERY_S = 60
TIMES_USUAL = 2
ROLES = ("ingest-1", "notify-1", "schedule-1", "gateway-1", "api-1")
EXPERTS = 4
AGED_DAYS = 31
"""The forecast remembers 30 days; a younger fleet's states grow by themselves."""
HEARD_DAYS = 1 / 48
"""By then every machine has sent its first ping and raised what it brought along."""
AGED_FROM_EVERY_S = 3600
FEWEST_A_DAY = 4
WORKS_S = 4 * 3600
"""A machine works so long a day at least, on average."""
MOST_DAYS = 395
"""History reaches back 400 days."""
WARM_UP_SHARE = 4
LOOK_EVERY_S = 5.0
LINE_EVERY_S = 60.0
HELD_SHARE = 0.95
MB = 1024 * 1024
RESULTS = Path("soak-results")
KEPT, BROKEN, INCONCLUSIVE = 0, 1, 3

Rss = dict[str, list[Reading]]


class Scale(Struct, frozen=True):
    """What is to be run. `every_s`: between two pings of a working machine, by its own clock. `warm_up_s`: the part of
    the run that is not judged."""

    minutes: int
    machines: int
    per_s: float
    every_s: int = USUAL_EVERY_S

    @property
    def lasts_s(self) -> float:
        return self.minutes * 60.0

    @property
    def warm_up_s(self) -> float:
        return self.lasts_s / WARM_UP_SHARE

    @property
    def aged_days(self) -> float:
        """How much of the fleet's life is over when the run begins: little where it lives hardly faster than usual."""
        return AGED_DAYS if self.every_s >= AGED_FROM_EVERY_S else HEARD_DAYS

    @property
    def days(self) -> int:
        """How long the fleet must live at least, that its pings last."""
        a_day = self.machines * max(FEWEST_A_DAY, WORKS_S / self.every_s)
        return int(self.aged_days) + 2 + int(self.per_s * self.lasts_s / a_day)

    def fleet(self) -> Fleet:
        """Its last ping is of an hour ago."""
        hours = self.days * 24.0
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours + 1)
        return build_fleet(
            FleetSpec(
                seed=47,
                machines=self.machines,
                start=start,
                hours=hours,
                duplicates=0.01,
                late=0.02,
                faults=0.05,
                ping_every_s=self.every_s,
                idle_every_s=max(1800, 3 * self.every_s),
            )
        )


class Soak:
    """A run in an arena; what it has seen of its processes."""

    def __init__(self, arena: Arena, scale: Scale, fleet: Fleet) -> None:
        self.arena = arena
        self.scale = scale
        self.pings = Pings(fleet, arena.servers.kafka, partial(arena.address, "gateway"), arena.key)
        self.people = People(partial(arena.address, "api"), arena.key, fleet)
        self.office = Office(partial(arena.address, "api"), arena.key, seed=47)
        self.rss: Rss = {name: [] for name in ROLES}
        self._fleet = fleet
        self._line_at_s = 0.0

    async def begin(self) -> None:
        """The machines are known and the beginning is read, by processes that end then."""
        await self.arena.complete()
        await self.arena.register(self._fleet, within_s=300)
        sent = await self.pings.age(self.scale.aged_days, lambda count: _say(f"ageing: {count} pings sent"))
        while not _through(seen := await snapshot(self.arena.servers.engine), sent):
            _say(f"ageing: {seen.read} of {sent} pings read, {seen.unsent} messages to be sent")
            await asyncio.sleep(2)
        print()
        await self.arena.crew.end()
        for name in ROLES:
            self.arena.crew.start(name)
        await self.arena.complete()

    async def run(self) -> None:
        """Everybody does what he does, and the processes are looked at."""
        async with asyncio.TaskGroup() as group:
            doing = [
                group.create_task(self.pings.keep_coming(self.scale.per_s)),
                group.create_task(self.people.work()),
                group.create_task(self.office.work(EXPERTS)),
            ]
            await self._look()
            for task in doing:
                task.cancel()

    async def _look(self) -> None:
        begun_s = time.monotonic()
        while (at_s := time.monotonic() - begun_s) < self.scale.lasts_s:
            for name, member in self.arena.crew.members.items():
                with suppress(psutil.Error):
                    self.rss[name].append((at_s, psutil.Process(member.pid).memory_info().rss / MB))
            self._progress(at_s)
            await asyncio.sleep(LOOK_EVERY_S)

    def _progress(self, at_s: float) -> None:
        """A line that is written over on a terminal, and one a minute elsewhere."""
        if not sys.stdout.isatty() and at_s < self._line_at_s:
            return
        self._line_at_s += LINE_EVERY_S
        sizes = "  ".join(f"{name.split('-')[0]} {found[-1][1]:.1f}" for name, found in self.rss.items() if found)
        phase = "warming up" if at_s < self.scale.warm_up_s else "judged"
        _say(f"{at_s / 60:6.1f} of {self.scale.minutes} min ({phase})  MB: {sizes}  {self.pings.acknowledged} pings")

    def judged(self) -> dict[str, Growth]:
        """Of each process, without the warm-up."""
        warm = {name: [one for one in found if one[0] >= self.scale.warm_up_s] for name, found in self.rss.items()}
        return {name: growth(found) for name, found in warm.items() if found}


def _through(seen: Snapshot, sent: int) -> bool:
    return seen.read >= sent and not seen.unsent and seen.alerts_read >= seen.alerts_out


def _say(line: str) -> None:
    """Over the line before, on a terminal."""
    print(f"\r{line}\033[K" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def exit_code(judged: Mapping[str, Growth], wrongs: Sequence[str], held: bool) -> int:
    """`wrongs`: processes that ended; `held`: whether the load was what it was to be."""
    verdicts = {name: one.verdict(LIMIT_PER_H) for name, one in judged.items()}
    if wrongs or Verdict.BROKEN in verdicts.values():
        return BROKEN
    complete = verdicts.keys() == set(ROLES) and set(verdicts.values()) == {Verdict.KEPT}
    return KEPT if complete and held else INCONCLUSIVE


def report(soak: Soak, seen: Snapshot) -> int:
    """Prints what came of it; the exit code."""
    judged, scale = soak.judged(), soak.scale
    wanted = scale.per_s * scale.lasts_s
    held = soak.pings.acknowledged >= wanted * HELD_SHARE
    asked = " ".join(f"{status or 'no answer'}: {count}" for status, count in sorted(soak.people.answers.items()))
    print(f"\n{scale.minutes} min, the first {scale.warm_up_s / 60:.1f} not judged")
    print(f"fleet                {scale.machines} machines, a ping every {scale.every_s} s of their own time")
    print(f"pings acknowledged   {soak.pings.acknowledged} of {wanted:.0f}{'' if held else ': TOO FEW'}")
    print(f"posts unanswered     {soak.pings.unanswered}")
    print(f"answers of the API   {asked}; {len(soak.office.leases)} leases")
    print(
        f"in the database      {seen.stored} pings, {seen.alerts} facts, {seen.tasks} tasks, {seen.dead} dead letters"
    )
    print(f"{'process':<12}{'first MB':>10}{'last MB':>10}{'MB/h':>8}  {'by 19 of 20':<18}verdict")
    for name, one in judged.items():
        span = f"{one.low:+.2f} to {one.high:+.2f}"
        verdict = one.verdict(LIMIT_PER_H).value
        print(f"{name:<12}{one.first_mb:>10.1f}{one.last_mb:>10.1f}{one.per_h:>+8.2f}  {span:<18}{verdict}")
    for wrong in soak.arena.crew.wrongs:
        print(f"WRONG: {wrong}")
    code = exit_code(judged, soak.arena.crew.wrongs, held)
    print({KEPT: "kept", BROKEN: "BROKEN", INCONCLUSIVE: "inconclusive: that cannot be told"}[code])
    return code


def keep(rss: Rss, home: Path) -> None:
    """Every reading, as lines of process, seconds, MB."""
    with (home / "rss.csv").open("w", encoding="utf-8", newline="") as file:
        rows = ((name, f"{at_s:.1f}", f"{mb:.2f}") for name, found in rss.items() for at_s, mb in found)
        csv.writer(file).writerows([("process", "at_s", "rss_mb"), *rows])


async def soak(scale: Scale) -> int:
    """One run, printed; the exit code. Logs and readings are in `RESULTS`."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    home = RESULTS.absolute()
    print(f"{scale.per_s:.0f} pings/s of {scale.machines} machines for {scale.minutes} min", flush=True)
    async with temporary_servers() as servers, arena_in(servers, home, None, ROLES) as arena:
        one = Soak(arena, scale, scale.fleet())
        await one.begin()
        await one.run()
        seen = await snapshot(servers.engine)
        await arena.crew.end()
        keep(one.rss, home)
        return report(one, seen)


def options(given: Sequence[str] | None = None) -> Scale:
    """What is to be run; leaves with exit code 2 where that cannot be."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--machines", type=int, default=USUAL_MACHINES)
    parser.add_argument("--pings-per-s", type=float, help="by default twice the usual of so many machines")
    parser.add_argument(
        "--ping-every-s", type=int, default=USUAL_EVERY_S, help="of a working machine, by its own clock"
    )
    found = parser.parse_args(given)
    per_s = found.pings_per_s or TIMES_USUAL * found.machines / USUAL_EVERY_S
    if min(found.minutes, found.machines, per_s) <= 0 or found.ping_every_s < 2:
        parser.error("minutes, machines and pings per second must be above 0, and pings 2 s apart or more")
    scale = Scale(found.minutes, found.machines, per_s, found.ping_every_s)
    if scale.days > MOST_DAYS:
        parser.error(f"the fleet would have to live for {scale.days} days, more than {MOST_DAYS}: fewer minutes")
    return scale


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it complains while topics are made anew
    sys.exit(asyncio.run(soak(options())))
