"""`make chaos`: runs with seeds, prints each report; the exit code is the worst.

0: all promises kept; 1: broken, or not known; 3: inconclusive; 2: it was asked for nothing that can be run.
"""

import argparse
import asyncio
import logging
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import structlog
from msgspec.structs import replace

from telemetry_svc.embedded.errors import EmbeddedUnavailable, StartFailed
from tests.chaos.arena import Servers, temporary_servers
from tests.chaos.plan import DEFAULT, SHORT, Scale, plan
from tests.chaos.report import BROKEN, INCONCLUSIVE, KEPT, Outcome
from tests.chaos.run import run

RESULTS = Path("chaos-results")
ServersFor = Callable[[], AbstractAsyncContextManager[Servers]]


def options(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What is to be run; leaves with exit code 2 where that would be nothing."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="one run with this seed (SEED=7)")
    parser.add_argument("--seeds", type=_at_least_one, default=1, help="the seeds 1 to this one (SEEDS=20)")
    parser.add_argument("--short", action="store_true", help="the short version that is part of make test")
    parser.add_argument("--pings", type=_at_least_one, help="so many pings instead of the scale's own")
    parser.add_argument("--keep", action="store_true", help="keep the evidence of a good run, too")
    return parser.parse_args(given)


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


async def run_all(seeds: Sequence[int], one: Callable[[int], Awaitable[Outcome]], *, keep: bool = False) -> int:
    """Runs each seed, whatever became of the one before, and tells of it; the worst exit code."""
    worst = KEPT
    for seed in seeds:
        outcome = await one(seed)
        print("\n".join(outcome.lines()), end="\n\n", flush=True)
        worst = max(worst, outcome.exit_code, key=(KEPT, INCONCLUSIVE, BROKEN).index)
        if outcome.exit_code == KEPT and not keep:
            shutil.rmtree(outcome.evidence)
    return worst


async def runs(chosen: argparse.Namespace, servers_for: ServersFor = temporary_servers) -> int:
    """All that was asked for, on servers of its own; the exit code. Where there are none nothing is known."""
    scale: Scale = SHORT if chosen.short else DEFAULT
    if chosen.pings:
        scale = replace(scale, pings=chosen.pings)
    seeds = [chosen.seed] if chosen.seed is not None else list(range(1, chosen.seeds + 1))
    try:
        async with servers_for() as servers:

            async def one(seed: int) -> Outcome:
                return await run(servers, seed, scale, plan(seed, scale), RESULTS.absolute() / f"seed-{seed}")

            return await run_all(seeds, one, keep=chosen.keep)
    except (EmbeddedUnavailable, StartFailed, OSError) as error:
        print(f"seeds {', '.join(map(str, seeds))}: broker or database failed, so they are not known: {error}")
        return BROKEN


def configure() -> None:
    """Progress for a terminal, on stderr; a client's complaints about servers that were stopped are none."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    configure()
    sys.exit(asyncio.run(runs(options())))
