"""`make chaos-broken`: the checker is checked. Each broken build must be caught, and by which figure is printed.

Random faults seldom hit the one moment at which a build shows itself, so each has a plan of its own that aims there. A
control is no broken build: one of two locks is taken away, and the other must hold.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tests.chaos.__main__ import RESULTS, configure
from tests.chaos.arena import Servers, temporary_servers
from tests.chaos.plan import STOPPED_S, Fault, Kind, Need, Scale
from tests.chaos.run import Outcome, run

TRIES = 3
DRAIN_WITHIN_S = 12.0
AIMED = Scale(machines=25, need=Need(0, 0, 0, 0))
CALM_S = 0.5


class Build(Struct, frozen=True):
    """A module of tests/chaos/broken and the faults under which it shows itself."""

    name: str
    faults: tuple[Fault, ...] = ()
    control: bool = False
    pings: int = 2_000


def _fault(kind: Kind, role: str = "ingest", lasts_s: float = 1.0) -> Fault:
    return Fault(kind, role, lasts_s, CALM_S)


SLEEPERS = _fault(Kind.STOP, lasts_s=STOPPED_S)
ROLLBACK = _fault(Kind.SESSIONS_IN_TRANSACTION)
LOST_COMMIT = _fault(Kind.LOSE_COMMIT)
LATE_COMMIT = _fault(Kind.HOLD_COMMIT, lasts_s=1.5)
GUEST = Fault(Kind.JOIN, "ingest", lasts_s=7.0, calm_s=13.0)
"""The pause is as long as it takes to give him partitions and to get them back."""

BUILDS = (
    Build("random_event_ids", pings=500),
    Build("outbox_without_order", pings=500),
    Build("leases_not_looked_at"),
    Build("outbox_by_last_id", (LATE_COMMIT,) * 3),
    Build("cache_before_commit", (LOST_COMMIT,) * 6),
    Build("kafka_commits_first", (ROLLBACK,) * 3),
    Build("epoch_without_offset", (ROLLBACK,) * 4),
    Build("goes_on_after_errors", (ROLLBACK,) * 4, control=True),
    Build("cache_after_revocation", (GUEST,) * 2, pings=4_000),
    Build("fence_removed", (SLEEPERS, SLEEPERS)),
)
QUICK = BUILDS[:2]


class Verdict(Struct, frozen=True):
    """What became of a build, and after how many tries."""

    build: Build
    outcome: Outcome
    tries: int

    @property
    def as_expected(self) -> bool:
        """A broken build is caught, a control is clean."""
        return self.outcome.figures.clean == self.build.control

    def line(self) -> str:
        """A row of the table."""
        counts = self.outcome.figures.counts().items()
        caught = ", ".join(f"{name} {count}" for name, count in counts if count) or "nothing found"
        said = {
            (True, True): f"control: {caught}, {self.outcome.met.fenced} batches fenced",
            (True, False): f"control: NOT CLEAN: {caught}",
            (False, True): f"caught by {caught}",
            (False, False): "NOT CAUGHT",
        }[self.build.control, self.as_expected]
        return f"{self.build.name:<24} {said} ({self.tries}. try, {self.outcome.took_s:.0f} s)"


async def judge(servers: Servers, build: Build, evidence: Path) -> Verdict:
    """Runs a build until it is caught, at most three times, each with another seed; a control runs once."""
    scale, tries = replace(AIMED, pings=build.pings), 1
    while True:
        outcome = await run(servers, tries, scale, build.faults, evidence, build.name, DRAIN_WITHIN_S)
        if build.control or tries == TRIES or not outcome.figures.clean:
            return Verdict(build, outcome, tries)
        tries += 1


def _chosen(names: Sequence[str]) -> Iterator[Build]:
    known = {build.name: build for build in BUILDS}
    if unknown := set(names) - known.keys():
        sys.exit(f"no such build: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    yield from (build for build in BUILDS if not names or build.name in names)


async def _judge_all(builds: Sequence[Build]) -> int:
    verdicts = []
    async with temporary_servers() as servers:
        for build in builds:
            with tempfile.TemporaryDirectory(prefix="telemetry-chaos-") as folder:
                verdict = await judge(servers, build, Path(folder))
                if not verdict.as_expected:
                    shutil.copytree(folder, RESULTS / build.name, dirs_exist_ok=True)
            verdicts.append(verdict)
            print(verdict.line(), flush=True)
    return 0 if all(verdict.as_expected for verdict in verdicts) else 1


if __name__ == "__main__":
    configure()
    parser = argparse.ArgumentParser(prog="make chaos-broken", description=__doc__)
    parser.add_argument("build", nargs="*", help="some of the builds instead of all")
    sys.exit(asyncio.run(_judge_all(list(_chosen(parser.parse_args().build)))))
