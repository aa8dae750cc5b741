"""`make simulate-seeds FROM=… SEEDS=…`: lives as many seeds as one likes; the first that fails is told at length."""

import argparse
import os
import sys

from tests.simulation.life import live
from tests.simulation.seeds import report, run_in_processes, shorter, told


def main() -> int:
    """Exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--trace", action="store_true", help="tell every step of the life that failed, or of the only one"
    )
    given = parser.parse_args()
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
