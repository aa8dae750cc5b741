"""Many short lives, all different, each the same for ever: the promises of design.md under every fault at once.

A seed that fails is told with a list of faults made as short as it goes, and the command that shows it again.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.conftest import SCALE
from tests.simulation.__main__ import options
from tests.simulation.conftest import new_site
from tests.simulation.faults import Kind
from tests.simulation.life import live
from tests.simulation.seeds import RecordProperty, report, run_seeds, shorter, told
from tests.simulation.situations import SITUATIONS
from tests.simulation.statements import UnknownStatement
from tests.simulation.virtual_time import BEGIN_S, NobodyWaits, run

pytestmark = pytest.mark.uncounted

ROOT = Path(__file__).parents[2]
SEEDS = max(300, int(400 * SCALE))
"""Seed 300 is well behind the one that has met the last of all kinds and situations."""


@pytest.mark.timeout(600)
def test_all_promises_are_kept_whatever_goes_wrong(record_property: RecordProperty) -> None:
    lives = run_seeds(range(1, SEEDS + 1))
    record_property("told", told(lives))
    assert lives.failed == [], report(shorter(live(lives.failed[0])))
    never = [name for name in (*Kind, *SITUATIONS) if not lives.struck[name]]
    assert never == [], "a run that never met this has proved nothing of it"


def test_a_seed_is_the_same_life_everywhere() -> None:
    """In other processes too, whose sets and dicts of strings have another order."""
    commands = [sys.executable, "-m", "tests.simulation", "--from", "12", "--seeds", "1", "--trace"]
    lives = [
        subprocess.Popen(
            commands, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    ]
    first, second = [life.communicate(timeout=100)[0].splitlines()[1:] for life in lives]
    assert len(first) > 300
    assert first == second


@pytest.mark.parametrize("given", ["--seeds 0", "--seeds -1", "--seeds x", "--processes 0"])
def test_nothing_to_live_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        options(given.split())
    assert left.value.code == 2
    assert given.partition(" ")[0] in capsys.readouterr().err


def test_what_was_never_taught_is_named() -> None:
    async def ask() -> None:
        async with new_site().engine.begin() as connection:
            await connection.execute(text("SELECT 42"))

    with pytest.raises(UnknownStatement, match="SELECT 42"):
        run(ask())


def test_time_passes_only_where_everybody_waits() -> None:
    passed: list[tuple[str, float]] = []

    async def wait(name: str, for_s: float) -> None:
        await asyncio.sleep(for_s)
        passed.append((name, asyncio.get_running_loop().time() - BEGIN_S))

    async def life() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 3_600)
        await asyncio.gather(wait("late", 7_200), wait("soon", 1), wait("as soon", 1))

    run(life())
    assert passed == [("soon", 3_601), ("as soon", 3_601), ("late", 10_800)]


def test_a_house_that_stands_still_is_told() -> None:
    async def life() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NobodyWaits):
        run(life())
