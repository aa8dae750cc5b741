"""The short version of `make chaos`: every kind of fault at least once, on a broker and a database of its own."""

from pathlib import Path

import pytest

from tests.chaos.arena import temporary_servers
from tests.chaos.plan import SHORT, plan
from tests.chaos.run import run

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]


async def test_nothing_is_lost_and_nothing_doubled_whatever_dies(tmp_path: Path) -> None:
    seed = 1
    async with temporary_servers() as servers:
        outcome = await run(servers, seed, SHORT, plan(seed, SHORT), tmp_path)
    assert outcome.exit_code == 0, "\n".join(outcome.lines())
