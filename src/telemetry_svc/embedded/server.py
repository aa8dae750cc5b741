"""What both embedded servers have in common: start until ready, stop with grace, and be treated badly by tests.

A server here is one child process with a directory of its own. `kill`, `pause` and `resume` exist for those who
want to see the service survive them; they reach the server's own children too.
"""

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog

from telemetry_svc.embedded.errors import EmbeddedUnavailable, PartDied, StartFailed
from telemetry_svc.embedded.files import in_thread
from telemetry_svc.embedded.ports import is_free
from telemetry_svc.embedded.process import Child, Command, Spawner, end_leftovers, last_line

Progress = Callable[[str], None]

_PORT_TRIES = 3
_READY_POLL_S = 0.02
_KILL_GRACE_S = 10.0
_ORPHAN_GRACE_S = 3.0
_log = structlog.get_logger()


class EmbeddedServer(ABC):
    """One server, its directory and its process."""

    name: str
    stop_signal: signal.Signals
    start_within_s: float
    stop_within_s: float

    def __init__(self, home: Path, spawner: Spawner, progress: Progress) -> None:
        """`home` is the server's own folder in the data directory; nothing starts yet."""
        self.home = home
        self.log = home / "server.log"
        self._spawner = spawner
        self._progress = progress
        self._child: Child | None = None
        self._prepared = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs (or is paused)."""
        return self._child.pid if self.is_running and self._child else None

    @property
    def is_running(self) -> bool:
        """Whether its process exists."""
        return self._child is not None and self._child.exit_code is None

    async def start(self) -> None:
        """Start it and return when it serves, on the port of the last time where that is free.

        Harmless while it runs. Raises `EmbeddedUnavailable` or `StartFailed`.
        """
        if self.is_running:
            return
        began = time.monotonic()
        try:
            await self._make_ready()
        except OSError as error:
            raise EmbeddedUnavailable(f"cannot run {self.name} in {self.home}: {error}") from error
        took = time.monotonic() - began
        self._progress(f"{self.name} is ready after {took:.1f} s")
        _log.debug("embedded_server_ready", server=self.name, pid=self.pid, took_s=round(took, 3))

    async def stop(self) -> None:
        """End it with grace, or by force when that takes too long. Harmless when it does not run."""
        child = self._child
        if child is None:
            return
        self._child = None
        child.signal_tree(signal.SIGCONT)
        child.signal(self.stop_signal)
        if not await child.ended(self.stop_within_s):
            _log.warning("embedded_server_killed", server=self.name, after_s=self.stop_within_s)
            child.signal_tree(signal.SIGKILL)
            await child.ended(_KILL_GRACE_S)

    async def kill(self) -> None:
        """SIGKILL, as a crash would be; returns when it is gone. `start` recovers."""
        child = self._child
        if child is not None:
            self._child = None
            child.signal_tree(signal.SIGKILL)
            await child.ended(_KILL_GRACE_S)

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        if self._child is not None:
            self._child.signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        if self._child is not None:
            self._child.signal_tree(signal.SIGCONT)

    def check(self) -> None:
        """Raise `PartDied` if it ended without having been asked to."""
        if self._child is not None and self._child.exit_code is not None:
            raise PartDied(self.name, self._child.exit_code, self.log)

    @abstractmethod
    async def _prepare(self) -> None:
        """Everything that a first start needs and a restart does not."""

    @abstractmethod
    def _leftovers(self) -> list[psutil.Process]:
        """Processes of a former life that still work in `home`."""

    @abstractmethod
    def _clean_up(self) -> None:
        """Remove what a killed server left in the way of the next one; called when none runs in `home`."""

    @abstractmethod
    def _choose_ports(self) -> tuple[int, ...]:
        """Free ports for the next start."""

    @abstractmethod
    def _command(self) -> Command:
        """How to start it on the chosen ports."""

    @abstractmethod
    async def _is_ready(self, child: Child) -> bool:
        """Whether it serves."""

    @abstractmethod
    async def _started(self) -> None:
        """What remains to be done once it serves."""

    async def _make_ready(self) -> None:
        if not self._prepared:
            await self._prepare()
            self._prepared = True
        await end_leftovers(await asyncio.to_thread(self._leftovers), _ORPHAN_GRACE_S)
        await in_thread(self._clean_up)
        await self._start_on_free_ports()

    async def _start_on_free_ports(self) -> None:
        for tries_left in reversed(range(_PORT_TRIES)):
            ports = await in_thread(self._choose_ports)
            try:
                await self._start_once()
                return
            except StartFailed:
                if tries_left == 0 or all(is_free(port) for port in ports):
                    raise  # nobody took a port in between: another one would not help

    async def _start_once(self) -> None:
        child = await self._spawner.spawn(self._command())
        self._child = child
        try:
            await self._ready(child)
            await self._started()
        except BaseException:
            await self.kill()
            raise

    async def _ready(self, child: Child) -> None:
        deadline = time.monotonic() + self.start_within_s
        while not await self._is_ready(child):
            if (code := child.exit_code) is not None:
                raise StartFailed(self.name, f"{last_line(self.log)} (exit code {code})", self.log)
            if time.monotonic() > deadline:
                raise StartFailed(self.name, f"not ready within {self.start_within_s:.0f} s", self.log)
            await asyncio.sleep(_READY_POLL_S)

    async def _run_tool(self, what: str, command: Command, timeout_s: float) -> None:
        code = await self._spawner.run(command, timeout_s)
        if code != 0:
            raise StartFailed(self.name, f"{what}: {last_line(command.log)} (exit code {code})", command.log)
