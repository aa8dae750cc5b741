"""`make chaos-broken`: the checker is checked. Each broken build must be caught, by the figure that it must show in.

Random faults seldom hit the one moment at which a build shows itself, so each has a plan of its own that aims there.
Only the figures that the missing promise must show in count as caught: whatever else is found, or is merely not final
in time, proves nothing. A control is no broken build and must be clean: the service itself under each of the plans, and
a build of which one of two locks is taken away.
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
from tests.chaos.records import Figure
from tests.chaos.report import Outcome
from tests.chaos.run import DRAIN_WITHIN_S, run

TRIES = 3
BROKEN_DRAIN_WITHIN_S = 12.0
"""What a broken build leaves stuck is not waited for any longer."""
AIMED = Scale(machines=25, need=Need(0, 0, 0, 0))
CALM_S = 0.5


class Build(Struct, frozen=True):
    """Faults under which a module of tests/chaos/broken shows itself (None: the service as it is), and where.

    `shows`: the figures that prove it; without any it is a control.
    """

    name: str
    patch: str | None
    shows: frozenset[Figure] = frozenset()
    faults: tuple[Fault, ...] = ()
    pings: int = 2_000

    @property
    def is_control(self) -> bool:
        return not self.shows


def _fault(kind: Kind, role: str = "ingest", lasts_s: float = 1.0) -> Fault:
    return Fault(kind, role, lasts_s, CALM_S)


SLEEPERS = _fault(Kind.STOP, lasts_s=STOPPED_S)
ROLLBACK = _fault(Kind.SESSION_IN_TRANSACTION)
LOST_COMMIT = _fault(Kind.LOSE_COMMIT)
LATE_COMMIT = _fault(Kind.HOLD_COMMIT, lasts_s=1.5)
GUEST = Fault(Kind.JOIN, "ingest", lasts_s=7.0, calm_s=13.0)
"""The pause is as long as it takes to give him partitions and to get them back."""


def _broken(name: str, *shows: Figure, faults: tuple[Fault, ...] = (), pings: int = 2_000) -> Build:
    return Build(name, name, frozenset(shows), faults, pings)


BUILDS = (
    _broken("random_event_ids", "phantom", pings=500),
    _broken("outbox_without_order", "reordered", pings=500),
    _broken("leases_not_looked_at", "double_leased"),
    _broken("outbox_by_last_id", "lost", faults=(LATE_COMMIT,) * 3),
    _broken("cache_before_commit", "lost", faults=(LOST_COMMIT,) * 6),
    _broken("kafka_commits_first", "lost", faults=(ROLLBACK,) * 3),
    _broken("epoch_without_offset", "lost", faults=(ROLLBACK,) * 4),
    _broken("cache_after_revocation", "lost", "phantom", faults=(GUEST,) * 2, pings=4_000),
    _broken("fence_removed", "lost", "phantom", "reordered", faults=(SLEEPERS,) * 3, pings=10_000),
)
CONTROLS = (
    Build("goes_on_after_errors", "goes_on_after_errors", faults=(ROLLBACK,) * 4),
    Build("only_the_fence", "only_the_fence", faults=(SLEEPERS,) * 3, pings=10_000),
    Build("nothing, calm", None),
    Build("nothing, late commits", None, faults=(LATE_COMMIT,) * 3),
    Build("nothing, lost commits", None, faults=(LOST_COMMIT,) * 6),
    Build("nothing, rollbacks", None, faults=(ROLLBACK,) * 4),
    Build("nothing, guests", None, faults=(GUEST,) * 2, pings=4_000),
    Build("nothing, sleepers", None, faults=(SLEEPERS, SLEEPERS)),
)
QUICK = BUILDS[:1]


class Verdict(Struct, frozen=True):
    """What became of a build, and after how many tries."""

    build: Build
    outcome: Outcome
    tries: int

    @property
    def as_expected(self) -> bool:
        """A broken build shows itself where it must; a control is clean under all that was planned for it."""
        figures = self.outcome.figures
        if self.build.is_control:
            return self.outcome.is_clean and not self.outcome.too_little
        return figures is not None and any(getattr(figures, name) for name in self.build.shows)

    def line(self) -> str:
        """A row of the table."""
        said = {
            (True, True): "control: clean",
            (True, False): "control: NOT CLEAN",
            (False, True): f"caught, as it must be, by {' or '.join(sorted(self.build.shows))}",
            (False, False): f"NOT CAUGHT by {' or '.join(sorted(self.build.shows))}",
        }[self.build.is_control, self.as_expected]
        where = f"({self.tries}. try, {self.outcome.took_s:.0f} s)"
        return f"{self.build.name:<24} {said}: {self._found()}, {self.outcome.met.fenced} batches fenced {where}"

    def _found(self) -> str:
        figures, wrongs = self.outcome.figures, self.outcome.wrongs
        counts = {} if figures is None else figures.counts()
        found = [f"{name} {count}" for name, count in counts.items() if count]
        too_little = self.outcome.too_little if self.build.is_control else ()
        return ", ".join([*found, *wrongs, *too_little]) or "nothing found"


async def judge(servers: Servers, build: Build, evidence: Path) -> Verdict:
    """Runs a build until it is caught, at most three times, each with another seed; a control runs once."""
    scale, tries = replace(AIMED, pings=build.pings, more_tries=AIMED.more_tries if build.is_control else 0), 1
    patience_s = DRAIN_WITHIN_S if build.is_control else BROKEN_DRAIN_WITHIN_S
    while True:
        outcome = await run(servers, tries, scale, build.faults, evidence, build.patch, patience_s)
        verdict = Verdict(build, outcome, tries)
        if build.is_control or tries == TRIES or verdict.as_expected:
            return verdict
        tries += 1


def _chosen(names: Sequence[str]) -> Iterator[Build]:
    everything = (*BUILDS, *CONTROLS)
    known = {build.name: build for build in everything}
    if unknown := set(names) - known.keys():
        sys.exit(f"no such build: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    yield from (build for build in everything if not names or build.name in names)


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
    parser.add_argument("build", nargs="*", help="some of the builds and controls instead of all")
    sys.exit(asyncio.run(_judge_all(list(_chosen(parser.parse_args().build)))))
