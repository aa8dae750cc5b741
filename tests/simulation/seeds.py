"""Many lives, one after the other, and what to say of them: how many a minute, what came about, and what failed.

A list of faults that fails is made shorter before it is shown: one fault after the other is left out, as long as the
life still fails.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from msgspec import Struct

from tests.simulation.broken import Breaking
from tests.simulation.faults import Fault, Struck
from tests.simulation.life import Life, live, nothing_broken

CHUNK = 25
RecordProperty = Callable[[str, object], None]
"""What pytest gives to a test that has something to tell."""

TOLD_LINES = 60


class Run(Struct):
    """What some seeds gave. `failed`: the seeds whose life broke a promise."""

    seeds: int = 0
    took_s: float = 0.0
    struck: Struck = Struck()
    failed: list[int] = []

    def add(self, other: "Run") -> None:
        self.seeds += other.seeds
        self.struck += other.struck
        self.failed += other.failed


def run_seeds(seeds: Iterable[int], breaking: Breaking = nothing_broken) -> Run:
    """Lives each seed once, in this process."""
    began_s, run = time.perf_counter(), Run(struck=Struck(), failed=[])
    with _collecting_now_and_then():
        for seed in seeds:
            life = live(seed, breaking=breaking)
            run.seeds += 1
            run.struck += life.struck
            if life.problems:
                run.failed.append(seed)
            if run.seeds % CHUNK == 0:
                gc.collect()
    run.took_s = time.perf_counter() - began_s
    return run


@contextmanager
def _collecting_now_and_then() -> Iterator[None]:
    """A life makes much that is soon gone: looking for it all the time takes a tenth of the whole."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def first_failure(seeds: Iterable[int], breaking: Breaking, theme: str | None = None) -> Life | None:
    """The first life of a broken service that is seen to be one."""
    return next((life for seed in seeds if (life := live(seed, None, breaking, theme)).problems), None)


def run_in_processes(seeds: range, processes: int) -> Run:
    """The same in several processes at once, each forked from one that has neither threads nor a loop."""
    if processes <= 1:
        return run_seeds(seeds)
    began_s, run = time.perf_counter(), Run(struck=Struck(), failed=[])
    parts = [seeds[begin : begin + CHUNK] for begin in range(0, len(seeds), CHUNK)]
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(processes, mp_context=forked) as pool:
        for part in pool.map(run_seeds, parts):
            run.add(part)
    run.took_s = time.perf_counter() - began_s
    return run


def told(run: Run) -> str:
    """One line for the speed, one for what came about."""
    a_minute = run.seeds / run.took_s * 60 if run.took_s else 0
    struck = ", ".join(f"{name} {count}" for name, count in sorted(run.struck.items()))
    return f"{run.seeds} seeds, {a_minute:.0f} a minute, {len(run.failed)} failed\nreached: {struck}"


def shorter(life: Life, breaking: Breaking = nothing_broken) -> Life:
    """The same seed with as few faults as it still fails with."""
    for fault in life.faults:
        fewer = [one for one in life.faults if one is not fault]
        attempt = live(life.seed, fewer, breaking, life.theme)
        if attempt.problems:
            life = attempt
    return life


def report(life: Life, *, whole: bool = False) -> str:
    """What went wrong in a life, by which faults, and how to see it again."""
    lines = life.trace.lines()
    shown = lines if whole else lines[-TOLD_LINES:]
    return "\n".join(
        [
            f"seed {life.seed} broke these promises:",
            *(f"  {problem}" for problem in life.problems),
            "by these faults:",
            *_listed(life.faults),
            f"and this happened{'' if whole else f' in the end (all {len(lines)} steps: TRACE=1)'}:",
            *shown,
            f"again: make simulate-seeds FROM={life.seed} SEEDS=1",
        ]
    )


def _listed(faults: Iterable[Fault]) -> list[str]:
    return [f"  {fault}" for fault in faults] or ["  none at all"]
