"""The processes of a run: one per member of a role, each forked from a zygote, to be killed, stopped and started anew.

What a member counted (`/metrics`) is read while it lives and kept when it is killed, so the sums are lower bounds.
Nobody may end who was not told to: it is looked for all the while, and the exit code of a killed one must be that of
SIGKILL, else it had ended before. `wrongs` tells of each.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
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
WATCH_EVERY_S = 0.2
RESTART_S = 1.0
FAR = "ingest-far"
"""The member whose way to the database leads through the proxy."""

Ask = Callable[[Mapping[str, object]], Any]
_METRIC = re.compile(r"^(telemetry_\w+_total)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Life(Enum):
    """Whether a member runs."""

    DOWN = auto()
    UP = auto()
    STOPPED = auto()
    ENDING = auto()
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

    def keep_count(self) -> None:
        """What it counted in the life that has ended."""
        for name, value in self.latest.items():
            self.counted[name] += value
        self.latest = {}

    def ports(self) -> set[int]:
        """Its ends of the TCP connections that it has now."""
        try:
            return {one.laddr.port for one in psutil.Process(self.pid).net_connections("tcp")}
        except psutil.Error:
            return set()


class Crew:
    """All members. `ask` puts a request to the zygote (tests/cli/zygote.py). `settings`: name → value without the
    prefix; `far_settings` are those of the far one.
    """

    def __init__(self, ask: Ask, home: Path, settings: dict[str, str], far_settings: dict[str, str]) -> None:
        self._ask = ask
        self._home = home
        self._settings = settings
        self._far_settings = far_settings
        self.members: dict[str, Member] = {}
        self.wrongs: list[str] = []

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

    async def kill(self, member: Member) -> bool:
        """SIGKILL, stopped or not; whether that was what ended it."""
        if member.life not in {Life.UP, Life.STOPPED}:
            return False
        os.kill(member.pid, signal.SIGKILL)
        code = await self._buried(member)
        if code != -signal.SIGKILL:
            self.wrongs.append(f"{member.name} had ended by itself with exit code {code} before it was killed")
        return code == -signal.SIGKILL

    async def leave(self, member: Member) -> None:
        """SIGTERM. It must leave within its grace and with exit code 0."""
        if member.life is not Life.UP:
            return
        os.kill(member.pid, signal.SIGTERM)
        try:
            code = await self._buried(member)
        except TimeoutError:
            self.wrongs.append(f"{member.name} did not leave within {GRACE_S + 10:.0f} s of SIGTERM")
            os.kill(member.pid, signal.SIGKILL)
            await self._buried(member)
            return
        if code != 0:
            self.wrongs.append(f"{member.name} left with exit code {code}")

    async def dismiss(self, member: Member) -> None:
        """SIGTERM, and it does not come back."""
        self.go_on(member)
        if member.life is Life.UP:
            await self.leave(member)
        member.life = Life.GONE

    def stop(self, member: Member) -> None:
        """SIGSTOP."""
        if member.life is Life.UP:
            os.kill(member.pid, signal.SIGSTOP)
            member.life = Life.STOPPED

    def go_on(self, member: Member) -> None:
        """SIGCONT, if it still sleeps: it may have ended meanwhile."""
        if member.life is Life.STOPPED:
            os.kill(member.pid, signal.SIGCONT)
            member.life = Life.UP

    def heal(self) -> None:
        """Everybody runs."""
        for member in self.members.values():
            self.go_on(member)
            self.start(member.name)

    def look_after(self) -> list[Member]:
        """Who has ended by itself since the last look; such a member is down from then on."""
        fallen = []
        for member in self.members.values():
            if member.life not in {Life.UP, Life.STOPPED} or (code := self._exit_code(member)) is None:
                continue
            self.wrongs.append(f"{member.name} ended by itself with exit code {code}")
            member.life = Life.DOWN
            member.keep_count()
            fallen.append(member)
        return fallen

    async def keep_watching(self) -> None:
        """Until it is cancelled; who has fallen is started again, as a supervisor would."""
        while True:
            fallen = self.look_after()
            await asyncio.sleep(RESTART_S if fallen else WATCH_EVERY_S)
            for member in fallen:
                if member.life is Life.DOWN:
                    self.start(member.name)

    async def end(self) -> None:
        """Everybody leaves at once."""
        self.look_after()
        self.heal()
        await asyncio.gather(*map(self.leave, self.up()))

    def abandon(self) -> None:
        """Nobody outlives the run, whatever became of it."""
        for member in self.members.values():
            if member.life in {Life.UP, Life.STOPPED, Life.ENDING}:
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
        if member.pid == pid and member.life in {Life.UP, Life.STOPPED}:
            member.latest = _summed(_METRIC.findall(answer.text))

    async def _buried(self, member: Member) -> int:
        member.life = Life.ENDING
        async with asyncio.timeout(GRACE_S + 10):
            while (code := self._exit_code(member)) is None:  # noqa: ASYNC110 - its parent tells by being asked
                await asyncio.sleep(POLL_S)
        member.life = Life.DOWN
        member.keep_count()
        return code

    def _start(self, command: Mapping[str, object]) -> int:
        """The process id."""
        return int(self._ask({"start": command}))

    def _exit_code(self, member: Member) -> int | None:
        code = self._ask({"poll": member.pid})
        return None if code is None else int(code)


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
    stdin, stdout = _of(zygote.stdin), _of(zygote.stdout)

    def ask(request: Mapping[str, object]) -> Any:
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        return json.loads(stdout.readline())

    crew = Crew(ask, home, settings, far_settings)
    keeping = [asyncio.create_task(task) for task in (crew.keep_scraping(), crew.keep_watching())]
    try:
        yield crew
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)
        crew.abandon()
        stdin.close()
        zygote.wait()
        stdout.close()
    for task in keeping:
        if not task.cancelled():
            task.result()  # it should not have ended, and says why it did


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
