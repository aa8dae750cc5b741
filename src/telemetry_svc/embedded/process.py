"""Children that never outlive us, and the ones of a former life that did.

On Linux the kernel ends a child when the *thread* that started it ends, so all are started from one thread that lives
as long as its owner (`Spawner`); `_launch.py` arms that. Where there is no such signal, or it was not enough (a child
that was stopped, say), the next start looks for what still works in the same directory (`leftovers`) and ends it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

_LAUNCHER = Path(__file__).with_name("_launch.py")
_LOG_KEPT_BYTES = 10 * 1024 * 1024
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Account:
    """An existing user of this machine that a child runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run: absolute path and arguments, the file for its output, and how it dies with us."""

    argv: tuple[str, ...]
    log: Path
    cwd: Path = Path("/")
    env: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    death_signal: signal.Signals = signal.SIGKILL


class Child:
    """A program we started."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Made by `Spawner.spawn`."""
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.poll()

    def signal_tree(self, number: signal.Signals) -> None:
        """Send a signal to it and to all it has started, itself first; none is not an error."""
        if self.exit_code is not None:
            return
        for process in _tree(self.pid):
            _send(process, number)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        if self.exit_code is None:
            self._popen.send_signal(number)

    def listens_on(self, port: int) -> bool:
        """Whether a port that answers is its own, and not another server's that was faster."""
        try:
            sockets = psutil.Process(self.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        return any(socket.status == psutil.CONN_LISTEN and socket.laddr.port == port for socket in sockets)

    async def ended(self, timeout_s: float) -> bool:
        """Whether it ends within the time."""
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True


class Spawner:
    """Starts programs from one thread that lives until `close`: when the thread goes, its children go."""

    def __init__(self) -> None:
        """Nothing runs before the first `spawn`."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-spawner")

    async def spawn(self, command: Command) -> Child:
        """Start it, in a session of its own (a Ctrl-C at the terminal is for us, not for it)."""
        return Child(await asyncio.get_running_loop().run_in_executor(self._thread, _popen, command))

    async def run(self, command: Command, timeout_s: float) -> int:
        """Start it and wait for its end; killed after `timeout_s`. Returns the exit code."""
        child = await self.spawn(command)
        try:
            await child.ended(timeout_s)
        finally:
            child.signal_tree(signal.SIGKILL)
            await child.ended(timeout_s)
        return child.exit_code if child.exit_code is not None else -signal.SIGKILL

    def close(self) -> None:
        """End the thread, and with it what it started."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def leftovers(name: str, is_ours: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Running processes of this name for which `is_ours` holds; those we may not look at are not ours."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == name and is_ours(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def end_leftovers(processes: list[psutil.Process], grace_s: float) -> None:
    """Wait for processes that are probably ending already, then kill them; returns when all are gone.

    One that is stopped will not end by itself, so nothing is waited for.
    """
    if not any(_is(process, psutil.STATUS_STOPPED) for process in processes):
        await _all_gone(processes, grace_s)
    for process in processes:
        _send(process, signal.SIGKILL)
    await _all_gone(processes, grace_s)


def last_line(log: Path) -> str:
    """The last line with text in a log, for a message to the user."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-50:]
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "empty log")


def _popen(command: Command) -> subprocess.Popen[bytes]:
    account = command.account
    uid, gid = (str(account.uid), str(account.gid)) if account else ("-", "-")
    launcher = (sys.executable, "-I", "-S", str(_LAUNCHER), str(int(command.death_signal)), str(os.getpid()), uid, gid)
    with _opened_log(command.log) as log:
        return subprocess.Popen(
            [*launcher, *command.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=command.cwd,
            env=dict(command.env),
            start_new_session=True,
        )


def _opened_log(log: Path) -> IO[bytes]:
    """The log, for appending; one that has grown too large makes room first."""
    if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".old.log"))
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


async def _all_gone(processes: list[psutil.Process], timeout_s: float) -> None:
    """Wait until none runs. A zombie is gone: without an init that reaps orphans it would stay for ever."""
    deadline = time.monotonic() + timeout_s
    while any(process.is_running() and not _is(process, psutil.STATUS_ZOMBIE) for process in processes):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(_POLL_S)


def _is(process: psutil.Process, status: str) -> bool:
    try:
        return process.status() == status
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
