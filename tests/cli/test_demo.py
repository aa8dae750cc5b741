"""`demo`: what it prints at the end is what lies in its database, and Ctrl-C ends it cleanly at any moment."""

import re
import signal
from pathlib import Path

import asyncpg
import pytest

from telemetry_svc.embedded import start_embedded
from tests.cli.programs import Cli
from tests.embedded.conftest import all_gone

pytestmark = pytest.mark.embedded

SUMMARY = (
    r"^fleet at \S+ \S+ UTC: (\d+) pings sent, (\d+) ingested, (\d+) repeated, (\d+) dead letters, "
    r"(\d+) alerts raised, (\d+) calls queued \((\d+) open\)$"
)


@pytest.mark.parametrize("pings", [2_000])
async def test_a_bounded_one_prints_what_was_ingested_raised_and_queued(cli: Cli, home: Path, pings: int) -> None:
    with cli.started("demo", "--pings", pings, "--exit", home=home) as demo:
        assert demo.ends(100) == 0
        assert "Traceback" not in demo.err
    [numbers] = re.findall(SUMMARY, demo.out, re.MULTILINE)
    sent, ingested, repeated, dead, alerts, calls, open_calls = map(int, numbers)
    assert re.search(r"^first alert after \d+\.\d s$", demo.out, re.MULTILINE)
    assert re.search(r"^first call after \d+\.\d s$", demo.out, re.MULTILINE)
    assert (sent, ingested + repeated, dead) == (pings, pings, 0)
    assert repeated > 0
    async with start_embedded(home / "data" / "demo", kafka=False) as parts:
        connection = await asyncpg.connect(parts.database_url)
        counted = await connection.fetchrow(_COUNTS)
        await connection.close()
    assert counted is not None
    assert tuple(counted) == (ingested, alerts, calls, open_calls, 40, 0)
    assert alerts > 100
    assert 20 < open_calls <= calls


_COUNTS = """
SELECT (SELECT count(*) FROM ping) + (SELECT count(*) FROM ping_outlier), (SELECT count(*) FROM event),
       (SELECT count(*) FROM call_task), (SELECT count(DISTINCT machine_id) FROM call_task WHERE state = 'pending'),
       (SELECT count(*) FROM machine), (SELECT count(*) FROM dead_letter)
"""


async def test_ctrl_c_ends_it_with_all_that_it_started(cli: Cli, home: Path) -> None:
    """At once after the first call, while pings are still pouring in."""
    with cli.started("demo", home=home) as demo:
        demo.says(r"^first call after")
        children = demo.descendants()
        assert len(children) > 2
        demo.send(signal.SIGINT)
        assert demo.ends() == 0
        assert await all_gone(children, within_s=5)
        assert "Traceback" not in demo.err
    assert re.search(SUMMARY, demo.out.splitlines()[-1])
