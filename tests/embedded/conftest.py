"""Directories in which an unprivileged PostgreSQL can live, and processes that hold one."""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from telemetry_svc.embedded import EmbeddedServices, start_embedded

_HOLDER = Path(__file__).with_name("holder.py")


@dataclass(frozen=True)
class Holder:
    """A running `holder.py` and what it said."""

    process: Process
    database_url: str
    kafka_bootstrap: str
    pids: tuple[int, ...]

    async def kill(self) -> None:
        await kill(self.process)


StartHolder = Callable[..., Awaitable[Holder]]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that any user may enter (pytest's own may not be)."""
    with _enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    with _enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
async def parts(module_home: Path) -> AsyncIterator[EmbeddedServices]:
    """Both servers, of this module alone: its tests kill them."""
    async with start_embedded(module_home / "parts") as services:
        yield services


@pytest.fixture
async def start_holder() -> AsyncIterator[StartHolder]:
    """Start processes that hold directories; killed at the end at the latest."""
    processes: list[Process] = []

    async def start(data_dir: Path, *options: str) -> Holder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_HOLDER), str(data_dir), *options, stdin=DEVNULL, stdout=PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        facts = json.loads(await process.stdout.readline())
        return Holder(process, facts["database_url"], facts["kafka_bootstrap"], tuple(facts["pids"]))

    yield start
    for process in processes:
        await kill(process)


async def kill(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


async def all_gone(pids: tuple[int, ...], within_s: float) -> bool:
    """Whether no process has one of these ids any longer, within the time."""
    async with asyncio.timeout(within_s):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return True


def is_alive(pid: int) -> bool:
    """A zombie is dead: where nobody reaps orphans (a container without an init), it stays for ever."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _enterable_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="telemetry-svc-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
