"""The processes of a run: one per member of a role, each forked from a zygote, to be killed, stopped and started anew.

What a member counted (`/metrics`) is read while it lives and kept when it is killed, so the sums are lower bounds.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
ZYGOTE = Path(__file__).with_name("zygote.py")
GRACE_S = 25.0
POLL_S = 0.02
SCRAPE_EVERY_S = 0.5
FAR = "ingest-far"
"""The member whose way to the database leads through the proxy."""

_METRIC = re.compile(r"^(telemetry_\w+_total)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Life(Enum):
    """Whether a member runs."""

    DOWN = auto()
    UP = auto()
    STOPPED = auto()
    GONE = auto()


@dataclass
class Member:
    """One process of a role; `name` stays over its lives. `counted`: metric → sum over the lives that ended."""

    name: str
    home: Path
    life: Life = Life.DOWN
    pid: int = 0
    lives: int = 0
    counted: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    latest: dict[str, float] = field(default_factory=dict)

    @property
    def role(self) -> str:
        return self.name.split("-")[0]

    @property
    def out(self) -> Path:
        return self.home / f"{self.name}.{self.lives}.out"

    @property
    def err(self) -> Path:
        return self.home / f"{self.name}.log"

    @property
    def address(self) -> str | None:
        """Where it serves HTTP; None until it has said so, or while it is not up."""
        if self.life is not Life.UP or not self.out.exists():
            return None
        said = re.search(r" serves (http://\S+)$", self.out.read_text(), re.MULTILINE)
        return None if said is None else said[1]

    def ports(self) -> set[int]:
        """Its ends of the TCP connections that it has now."""
        try:
            return {one.laddr.port for one in psutil.Process(self.pid).net_connections("tcp")}
        except psutil.Error:
            return set()


class Crew:
    """All members. `settings`: name → value without the prefix; `far_settings` are those of the far one."""

    def __init__(
        self, zygote: "subprocess.Popen[bytes]", home: Path, settings: dict[str, str], far_settings: dict[str, str]
    ) -> None:
        self._zygote = zygote
        self._home = home
        self._settings = settings
        self._far_settings = far_settings
        self.members: dict[str, Member] = {}

    def up(self, role: str | None = None) -> list[Member]:
        """The members that run and are not stopped, in order of name."""
        members = (self.members[name] for name in sorted(self.members))
        return [one for one in members if one.life is Life.UP and role in {None, one.role}]

    def start(self, name: str) -> Member:
        """A new life of a member that is down, or its first."""
        member = self.members.setdefault(name, Member(name, self._home))
        if member.life is Life.DOWN:
            member.lives += 1
            settings = self._settings | (self._far_settings if name == FAR else {})
            for path in (member.out, member.err):
                path.touch()
            command = {
                "argv": [member.role],
                "env": _environment(self._home, settings),
                "cwd": str(self._home),
                "out": str(member.out),
                "err": str(member.err),
            }
            member.pid = self._start(command)
            member.life = Life.UP
        return member

    async def kill(self, member: Member) -> None:
        """SIGKILL, stopped or not."""
        os.kill(member.pid, signal.SIGKILL)
        await self._buried(member)

    async def leave(self, member: Member) -> int:
        """SIGTERM, and its exit code."""
        os.kill(member.pid, signal.SIGTERM)
        return await self._buried(member)

    async def dismiss(self, member: Member) -> None:
        """SIGTERM, and it does not come back."""
        if member.life is Life.STOPPED:
            self.go_on(member)
        if member.life is Life.UP:
            await self.leave(member)
        member.life = Life.GONE

    def stop(self, member: Member) -> None:
        """SIGSTOP."""
        os.kill(member.pid, signal.SIGSTOP)
        member.life = Life.STOPPED

    def go_on(self, member: Member) -> None:
        """SIGCONT."""
        os.kill(member.pid, signal.SIGCONT)
        member.life = Life.UP

    def heal(self) -> None:
        """Everybody runs."""
        for member in self.members.values():
            if member.life is Life.STOPPED:
                self.go_on(member)
            self.start(member.name)

    def fallen(self) -> list[str]:
        """Members that ended by themselves; none should."""
        return [one.name for one in self.up() if self._exit_code(one) is not None]

    async def end(self) -> dict[str, int]:
        """Everybody leaves at once; their exit codes."""
        self.heal()
        members = self.up()
        return dict(zip((one.name for one in members), await asyncio.gather(*map(self.leave, members)), strict=True))

    def abandon(self) -> None:
        """Nobody outlives the run, whatever became of it."""
        for member in self.members.values():
            if member.life in {Life.UP, Life.STOPPED}:
                os.kill(member.pid, signal.SIGKILL)

    def sum(self, metric: str) -> int:
        """A counter over all members and lives, as far as it was read."""
        name = f"telemetry_{metric}_total"
        return round(sum(one.counted[name] + one.latest.get(name, 0.0) for one in self.members.values()))

    async def scrape(self, client: httpx.AsyncClient) -> None:
        """Reads the counters of everybody who answers."""
        await asyncio.gather(*(self._scrape_one(client, member) for member in self.up()))

    async def keep_scraping(self) -> None:
        """Until it is cancelled."""
        async with httpx.AsyncClient(timeout=1) as client:
            while True:
                await self.scrape(client)
                await asyncio.sleep(SCRAPE_EVERY_S)

    async def _scrape_one(self, client: httpx.AsyncClient, member: Member) -> None:
        pid, address = member.pid, member.address
        if address is None:
            return
        try:
            answer = await client.get(f"{address}/metrics")
        except httpx.HTTPError:
            return
        if member.pid == pid and member.life is not Life.DOWN:
            member.latest = _summed(_METRIC.findall(answer.text))

    async def _buried(self, member: Member) -> int:
        member.life = Life.DOWN
        async with asyncio.timeout(GRACE_S + 10):
            while (code := self._exit_code(member)) is None:  # noqa: ASYNC110 - its parent tells by being asked
                await asyncio.sleep(POLL_S)
        for name, value in member.latest.items():
            member.counted[name] += value
        member.latest = {}
        return code

    def _start(self, command: Mapping[str, object]) -> int:
        """The process id."""
        return int(self._ask({"start": command}))

    def _exit_code(self, member: Member) -> int | None:
        code = self._ask({"poll": member.pid})
        return None if code is None else int(code)

    def _ask(self, request: Mapping[str, object]) -> Any:
        stdin, stdout = _of(self._zygote.stdin), _of(self._zygote.stdout)
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        return json.loads(stdout.readline())


@asynccontextmanager
async def crew_of(
    home: Path, settings: dict[str, str], far_settings: dict[str, str], build: str | None
) -> AsyncIterator[Crew]:
    """A crew without members yet, of a broken build where one is named; nobody outlives the block."""
    command = [sys.executable, str(ZYGOTE), *([build] if build else [])]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    zygote = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
    )
    crew = Crew(zygote, home, settings, far_settings)
    scraping = asyncio.create_task(crew.keep_scraping())
    try:
        yield crew
    finally:
        scraping.cancel()
        await asyncio.wait([scraping])
        crew.abandon()
        _of(zygote.stdin).close()
        zygote.wait()
        _of(zygote.stdout).close()


def _environment(home: Path, settings: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    given = {"data_dir": str(home / "data"), "http_port": "0", **settings}
    return inherited | {f"TELEMETRY_{name.upper()}": value for name, value in given.items()}


def _summed(samples: Iterable[tuple[str, str]]) -> dict[str, float]:
    """A counter with labels is one number here: the sum over them."""
    sums: dict[str, float] = defaultdict(float)
    for name, value in samples:
        sums[name] += float(value)
    return dict(sums)


def _of(stream: "IO[bytes] | None") -> IO[bytes]:
    assert stream is not None
    return stream
