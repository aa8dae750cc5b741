"""Nobody ends unnoticed: shells that end, fail or stay in the place of roles, and what the crew says of each."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.crew import Crew, Life, Member

STAYS = "trap 'exit {}' TERM; echo; while :; do sleep 0.02; done"
SHELLS = {"fine": STAYS.format(0), "fails": STAYS.format(1), "ends": "echo; exit 2"}
Treated = Callable[[Crew, Member], Awaitable[object]]


class Shells:
    """A zygote that starts a shell for each role, and waits until it is as it is meant to be."""

    def __init__(self) -> None:
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def ask(self, request: Mapping[str, Any]) -> Any:
        if "poll" in request:
            return self.running[request["poll"]].poll()
        [role] = request["start"]["argv"]
        started = subprocess.Popen(["/bin/sh", "-c", SHELLS[role]], stdout=subprocess.PIPE)
        assert started.stdout is not None
        with started.stdout as said:
            said.readline()
        if role == "ends":
            os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        self.running[started.pid] = started
        return started.pid


@pytest.fixture
async def crew(tmp_path: Path) -> AsyncIterator[Crew]:
    shells = Shells()
    crew = Crew(shells.ask, tmp_path, {}, {})
    yield crew
    crew.abandon()
    for shell in shells.running.values():
        shell.wait()


async def _is_killed(crew: Crew, member: Member) -> None:
    assert await crew.kill(member)


async def _is_killed_too_late(crew: Crew, member: Member) -> None:
    assert not await crew.kill(member)


async def _is_looked_for(crew: Crew, member: Member) -> None:
    assert crew.look_after() == [member]
    assert member.life is Life.DOWN
    assert not await crew.kill(member), "who is down is nobody to kill"


async def _leaves_at_the_end(crew: Crew, _: Member) -> None:
    await crew.end()


NOT_BEFORE = "ends-1 had ended by itself with exit code 2 before it was killed"
CASES: dict[str, tuple[str, Treated, list[str]]] = {
    "killed": ("fine", _is_killed, []),
    "sent away": ("fine", Crew.leave, []),
    "a guest sent away": ("fine", Crew.dismiss, []),
    "the end": ("fine", _leaves_at_the_end, []),
    "ended by itself, seen by the kill": ("ends", _is_killed_too_late, [NOT_BEFORE]),
    "ended by itself, seen by the watch": ("ends", _is_looked_for, ["ends-1 ended by itself with exit code 2"]),
    "left with an error": ("fails", Crew.leave, ["fails-1 left with exit code 1"]),
    "a guest with an error": ("fails", Crew.dismiss, ["fails-1 left with exit code 1"]),
    "the end with an error": ("fails", _leaves_at_the_end, ["fails-1 left with exit code 1"]),
}


@pytest.mark.parametrize(("role", "treated", "wrongs"), CASES.values(), ids=CASES.keys())
async def test_who_ends_otherwise_than_told_is_named(
    crew: Crew, role: str, treated: Treated, wrongs: list[str]
) -> None:
    member = crew.start(f"{role}-1")
    await treated(crew, member)
    assert crew.wrongs == wrongs


async def test_who_fell_while_asleep_is_started_again(crew: Crew) -> None:
    member = crew.start("fine-1")
    crew.stop(member)
    watching = asyncio.create_task(crew.keep_watching())
    subprocess.run(["/bin/kill", f"-{signal.SIGKILL}", str(member.pid)], check=True)
    async with asyncio.timeout(10):
        while member.lives < 2 or member.life is not Life.UP:  # noqa: ASYNC110 - it is looked at
            await asyncio.sleep(0.05)
    watching.cancel()
    assert crew.wrongs == ["fine-1 ended by itself with exit code -9"]
