"""`make chaos`: runs with seeds, prints each report; the exit code is the worst (0 kept, 1 broken, 3 inconclusive)."""

import argparse
import asyncio
import logging
import shutil
import sys
from pathlib import Path

import structlog
from msgspec.structs import replace

from tests.chaos.arena import temporary_servers
from tests.chaos.plan import DEFAULT, SHORT, Scale, plan
from tests.chaos.run import run

RESULTS = Path("chaos-results")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="one run with this seed (SEED=7)")
    parser.add_argument("--seeds", type=int, default=1, help="runs with the seeds 1 to this one (SEEDS=20)")
    parser.add_argument("--short", action="store_true", help="the short version that is part of make test")
    parser.add_argument("--pings", type=int, help="so many pings instead of the scale's own")
    parser.add_argument("--keep", action="store_true", help="keep the evidence of a good run, too")
    return parser.parse_args()


async def _runs(options: argparse.Namespace) -> int:
    scale: Scale = SHORT if options.short else DEFAULT
    if options.pings:
        scale = replace(scale, pings=options.pings)
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    worst = 0
    async with temporary_servers() as servers:
        for seed in seeds:
            outcome = await run(servers, seed, scale, plan(seed, scale), RESULTS.absolute() / f"seed-{seed}")
            print("\n".join(outcome.lines()), end="\n\n", flush=True)
            worst = max(worst, outcome.exit_code, key=(0, 3, 1).index)
            if outcome.exit_code == 0 and not options.keep:
                shutil.rmtree(outcome.evidence)
    return worst


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
    code = asyncio.run(_runs(_options()))
    sys.exit(code)
