"""Kafka's jars: exactly those of `kafka-jars.lock`, fetched once per user and checked at every start.

jgo knows how to fetch a jar by its coordinates; what it does not do is done here: it neither checks what it finds in
its cache (a truncated jar was taken) nor bears two processes that fetch at once.
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from telemetry_svc.embedded.errors import KAFKA_WAY_OUT, EmbeddedUnavailable
from telemetry_svc.embedded.files import held, in_thread

Progress = Callable[[str], None]

_FETCHERS = 8
_TRIES = 3
_HTTP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: `group:artifact:version sha256:…`."""

    group: str
    artifact: str
    version: str
    sha256: str

    def __str__(self) -> str:
        """Its coordinates."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def path_in(self, repository: Path) -> Path:
        """Where a Maven repository keeps it."""
        name = f"{self.artifact}-{self.version}.jar"
        return repository.joinpath(*self.group.split("."), self.artifact, self.version, name)


def locked_jars() -> tuple[Jar, ...]:
    """The jars of the lock file in this package, in its order."""
    lock = resources.files(__package__).joinpath("kafka-jars.lock").read_text()
    return tuple(parse_line(line) for line in lock.splitlines() if line and not line.startswith("#"))


def parse_line(line: str) -> Jar:
    """Read one line of the lock; `ValueError` if it is not one."""
    coordinates, digest = line.split(" ")
    group, artifact, version = coordinates.split(":")
    method, sha256 = digest.split(":")
    if method != "sha256" or len(sha256) != 64:
        raise ValueError(f"not a line of the jar lock: {line}")
    return Jar(group, artifact, version, sha256)


async def fetch_jars(cache_dir: Path, progress: Progress, jars: tuple[Jar, ...] | None = None) -> list[Path]:
    """Paths of all jars, whole and checked, from the cache or the network. Raises `EmbeddedUnavailable`."""
    wanted = locked_jars() if jars is None else jars
    repository = cache_dir / "maven"
    await in_thread(_make, repository)
    async with held(cache_dir / "maven.lock", lambda: progress("waiting for another start to fetch the Kafka jars")):
        missing = await asyncio.to_thread(_missing, repository, wanted)
        if missing:
            await _fetch_all(repository, missing, progress)
    return [jar.path_in(repository) for jar in wanted]


async def _fetch_all(repository: Path, missing: list[Jar], progress: Progress) -> None:
    loop = asyncio.get_running_loop()
    given_up = threading.Event()
    pool = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="kafka-jars")
    progress(f"downloading the Kafka jars 0/{len(missing)}")
    try:
        fetches = [loop.run_in_executor(pool, _fetch, repository, jar, given_up) for jar in missing]
        for done, fetch in enumerate(asyncio.as_completed(fetches), start=1):
            await fetch
            progress(f"downloading the Kafka jars {done}/{len(missing)}")
    finally:
        given_up.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch(repository: Path, jar: Jar, given_up: threading.Event) -> None:
    reason = "given up"
    for _ in range(_TRIES):
        if given_up.is_set():
            break
        try:
            reason = _fetch_once(repository, jar)
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo raises RuntimeError for a 404
            reason = type(error).__name__
        if not reason:
            return
    raise EmbeddedUnavailable(
        f"cannot download the Kafka jar {jar} ({reason}): look at the network and try again, {KAFKA_WAY_OUT}"
    )


def _fetch_once(repository: Path, jar: Jar) -> str:
    """The reason why it is not there now; empty if it is."""
    from jgo.maven import MavenContext

    path = jar.path_in(repository)
    path.unlink(missing_ok=True)
    context = MavenContext(repo_cache=repository, local_repos=[], timeout=_HTTP_TIMEOUT_S)
    fetched = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    if not _is_whole(fetched, jar):
        fetched.unlink(missing_ok=True)
        return "its content is not the locked one"
    return "" if fetched == path else "it is not where it should be"


def _make(repository: Path) -> None:
    try:
        repository.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedUnavailable(f"cannot keep the Kafka jars in {repository}: {error.strerror}") from error


def _missing(repository: Path, jars: tuple[Jar, ...]) -> list[Jar]:
    return [jar for jar in jars if not _is_whole(jar.path_in(repository), jar)]


def _is_whole(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False
