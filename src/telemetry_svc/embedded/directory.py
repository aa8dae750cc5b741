"""The one data directory: who holds it, where things lie in it, and how others find the servers of the holder.

Held by a kernel lock, so a holder that was killed holds nothing. `running.json` tells commands of the same user where
the holder's PostgreSQL and Kafka are; it counts only while the lock is held.
"""

import asyncio
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from telemetry_svc.embedded.errors import AlreadyRunning, EmbeddedUnavailable
from telemetry_svc.embedded.files import FileLock, write_atomically

_NAME = "telemetry-svc"
_LOCK_TRIES = 6
_LOCK_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """A process that holds a data directory. The addresses are None until its parts are ready."""

    pid: int
    address: str | None = None
    database_url: str | None = None
    kafka_bootstrap: str | None = None


def default_data_dir() -> Path:
    """`TELEMETRY_DATA_DIR`'s default: the user's data folder; as root one that an unprivileged server can enter."""
    if os.geteuid() == 0:
        return Path("/var/lib") / _NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / _NAME
    return _xdg("XDG_DATA_HOME", ".local/share")


def default_cache_dir() -> Path:
    """Where what can be fetched again is kept, once per user."""
    if os.geteuid() == 0:
        return Path("/var/cache") / _NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / _NAME
    return _xdg("XDG_CACHE_HOME", ".cache")


def find_running(data_dir: Path) -> Running | None:
    """Who holds the directory now, with its servers' addresses; None if nobody does.

    Raises `EmbeddedUnavailable` if it is another user's.
    """
    home = data_dir.expanduser().resolve()
    if not (home / "lock").exists():
        return None
    lock = FileLock(home / "lock")
    try:
        if lock.try_acquire():
            lock.release()
            return None
    except OSError as error:
        raise _unusable(home, error, "TELEMETRY_DATA_DIR") from error
    return _read(home / "running.json")


class DataDirectory:
    """A data directory that we hold, or want to."""

    def __init__(self, data_dir: Path) -> None:
        """`data_dir` is made when it is taken."""
        self.path = data_dir.expanduser().resolve()
        self.postgres = self.path / "postgres"
        self.kafka = self.path / "kafka"
        self._lock = FileLock(self.path / "lock")
        self._running = Running(os.getpid())

    async def take(self) -> None:
        """Make it and hold it. Raises `AlreadyRunning`, or `EmbeddedUnavailable` where it cannot be written."""
        make_directory(self.path, "TELEMETRY_DATA_DIR")
        for _ in range(_LOCK_TRIES):  # `find_running` holds the lock for a moment
            if self._try_take():
                return
            await asyncio.sleep(_LOCK_PAUSE_S)
        first = _read(self.path / "running.json")
        raise AlreadyRunning(self.path, first.pid if first else None, first.address if first else None)

    def _try_take(self) -> bool:
        try:
            if not self._lock.try_acquire():
                return False
            self._write()
        except OSError as error:
            self._lock.release()
            raise _unusable(self.path, error, "TELEMETRY_DATA_DIR") from error
        return True

    def publish(self, database_url: str | None, kafka_bootstrap: str | None) -> None:
        """Let other commands find the servers."""
        self._running = replace(self._running, database_url=database_url, kafka_bootstrap=kafka_bootstrap)
        self._write()

    def announce(self, address: str) -> None:
        """Let a second start name the address of this one."""
        self._running = replace(self._running, address=address)
        self._write()

    def empty(self) -> None:
        """Remove what the servers keep here."""
        for home in (self.postgres, self.kafka):
            if home.exists():
                shutil.rmtree(home)

    def release(self) -> None:
        """Hold it no longer."""
        (self.path / "running.json").unlink(missing_ok=True)
        self._lock.release()

    def _write(self) -> None:
        write_atomically(self.path / "running.json", json.dumps(asdict(self._running)))


def make_directory(path: Path, setting: str) -> None:
    """Make a directory (and those above it) that others may enter but not list, or say which setting moves it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            path.chmod(path.stat().st_mode | 0o011)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
    except OSError as error:
        raise _unusable(path, error, setting) from error


def _unusable(path: Path, error: OSError, setting: str) -> EmbeddedUnavailable:
    return EmbeddedUnavailable(f"cannot use {path}: {error.strerror}; set {setting} to another folder")


def _xdg(variable: str, fallback: str) -> Path:
    chosen = os.environ.get(variable, "")
    base = Path(chosen) if chosen.startswith("/") else Path.home() / fallback
    return base / _NAME


def _read(path: Path) -> Running | None:
    try:
        return Running(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
