"""Files and locks that survive a SIGKILL at any moment: whole or absent, held or free.

The kernel drops an `flock` with its process, so a lock can never be stale; a file is written beside its place and
renamed, so that no reader and no next start ever sees half of one.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

_LOCK_POLL_S = 0.1

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread` for work on files: a caller who is cancelled waits until the thread has let go of them."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace `path` by a file with this text, readable by its owner alone unless `mode` says more."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class FileLock:
    """An exclusive lock between processes (and between holders in one process)."""

    def __init__(self, path: Path) -> None:
        """`path` is made if need be and never removed: removing a lock file would split the lock."""
        self._path = path
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@asynccontextmanager
async def held(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock on `path`, waiting for it as long as it takes; `on_wait` is called once if that is needed."""
    lock = FileLock(path)
    if not lock.try_acquire():
        on_wait()
        while True:  # a blocking flock in a thread could not be given up
            await asyncio.sleep(_LOCK_POLL_S)
            if lock.try_acquire():
                break
    try:
        yield
    finally:
        lock.release()
