"""`make simulate-seeds FROM=… SEEDS=…`: lives as many seeds as one likes; the first that fails is told at length."""

import argparse
import os
import sys
from collections.abc import Sequence

from tests.simulation.life import live
from tests.simulation.seeds import report, run_in_processes, shorter, told


def options(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Which lives; leaves with exit code 2 where that would be none."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--seeds", type=_at_least_one, default=1_000)
    parser.add_argument("--processes", type=_at_least_one, default=os.cpu_count() or 1)
    parser.add_argument(
        "--trace", action="store_true", help="tell every step of the life that failed, or of the only one"
    )
    return parser.parse_args(given)


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    """Exit code 1 where a promise was broken."""
    given = options()
    run = run_in_processes(range(given.first, given.first + given.seeds), min(given.processes, given.seeds))
    print(told(run))
    for seed in run.failed[:1]:
        print(report(shorter(live(seed)), whole=given.trace))
    if run.failed:
        print("failed:", *run.failed)
    elif given.trace and given.seeds == 1:
        print("\n".join(live(given.first).trace.lines()))
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
