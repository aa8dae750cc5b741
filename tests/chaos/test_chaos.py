"""The short version of `make chaos`: every kind of fault at least once; and a broken build, which must not pass.

On a broker and a database of its own, for both are stopped.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.arena import Servers, temporary_servers
from tests.chaos.builds import BUILDS, CONTROLS, QUICK, Build, judge
from tests.chaos.plan import SHORT, plan
from tests.chaos.run import run

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400), pytest.mark.uncounted]
SEED = 1
BROKEN = Path(__file__).with_name("broken")


@pytest.fixture(scope="module")
async def servers() -> AsyncIterator[Servers]:
    async with temporary_servers() as servers:
        yield servers


async def test_nothing_is_lost_and_nothing_doubled_whatever_dies(servers: Servers, tmp_path: Path) -> None:
    outcome = await run(servers, SEED, SHORT, plan(SEED, SHORT), tmp_path)
    assert outcome.exit_code == 0, "\n".join(outcome.lines())


@pytest.mark.parametrize("build", QUICK, ids=lambda build: build.name)
async def test_a_broken_build_is_caught(servers: Servers, tmp_path: Path, build: Build) -> None:
    verdict = await judge(servers, build, tmp_path)
    assert verdict.as_expected, verdict.line()


def test_every_broken_build_has_its_plan_and_every_plan_its_control() -> None:
    modules = {path.stem for path in BROKEN.glob("*.py")} - {"__init__"}
    assert modules == {build.patch for build in (*BUILDS, *CONTROLS)} - {None}
    assert all(build.shows and "stuck" not in build.shows for build in BUILDS)
    assert all(control.is_control for control in CONTROLS)
    alone = [control.faults for control in CONTROLS if control.patch is None]
    assert {frozenset(build.faults) for build in BUILDS} == {frozenset(faults) for faults in alone}
    assert [build.name for build in QUICK] == ["random_event_ids"]
