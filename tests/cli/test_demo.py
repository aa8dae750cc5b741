"""`demo`: what it prints at the end is what lies in its database, and Ctrl-C ends it cleanly at any moment."""

import re
import shlex
import signal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from telemetry_svc.embedded import start_embedded
from tests.cli.programs import Cli, until
from tests.embedded.conftest import all_gone
from tests.simulate.test_demo_kinds import KINDS

pytestmark = pytest.mark.embedded

SUMMARY = (
    r"^fleet at \S+ \S+ UTC: (\d+) pings sent, (\d+) ingested, (\d+) repeated, (\d+) dead letters, "
    r"(\d+) alerts raised, (\d+) calls queued \((\d+) open\)$"
)

KIND = r"^(\w+ [\w-]+): (\d+), the newest of (DEMO\S+)\n    (.+)$"


@pytest.mark.parametrize("pings", [2_000])
async def test_a_bounded_one_prints_what_was_ingested_raised_and_queued(cli: Cli, home: Path, pings: int) -> None:
    with cli.started("demo", "--pings", pings, "--exit", home=home) as demo:
        assert demo.ends(100) == 0
        assert "Traceback" not in demo.err
    kinds = re.findall(KIND, demo.out, re.MULTILINE)
    assert {name for name, _, _, _ in kinds} == KINDS
    assert all(fact.rstrip().endswith("UTC.") for _, _, _, fact in kinds)
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
    assert sum(int(number) for _, number, _, _ in kinds) == alerts
    assert 20 < open_calls <= calls


_COUNTS = """
SELECT (SELECT count(*) FROM ping) + (SELECT count(*) FROM ping_outlier), (SELECT count(*) FROM event),
       (SELECT count(*) FROM call_task), (SELECT count(DISTINCT machine_id) FROM call_task WHERE state = 'pending'),
       (SELECT count(*) FROM machine), (SELECT count(*) FROM dead_letter)
"""


async def test_what_it_says_to_try_works_and_ctrl_c_ends_it_with_all_that_it_started(cli: Cli, home: Path) -> None:
    """While pings are still pouring in."""
    with cli.started("demo", home=home) as demo:
        demo.says(r"^first call after")
        look, take = re.findall(r"^  (?:look|take a call) +curl (.+)$", demo.out, re.MULTILINE)
        assert len(_curl(look)["items"]) > 10
        taken: list[Any] = []

        def is_taken() -> bool:
            taken.extend(_curl(take)["tasks"])
            return bool(taken)

        until(is_taken)
        assert taken[0]["customer"]["phone"].startswith("+999")
        children = demo.descendants()
        assert len(children) > 2
        demo.send(signal.SIGINT)
        assert demo.ends() == 0
        assert await all_gone(children, within_s=5)
        assert "Traceback" not in demo.err
    assert re.search(SUMMARY, demo.out.splitlines()[-1])


def _curl(arguments: str) -> Any:
    """What `curl` would answer."""
    *options, address = shlex.split(arguments)
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(value.split(": ", 1) for option, value in given if option == "-H")
    data = [value for option, value in given if option == "-d"]
    return httpx.request("POST" if data else "GET", address, headers=headers, content="".join(data)).json()
