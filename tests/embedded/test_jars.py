"""The jars: exactly the locked ones, whatever the cache and the network hold."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jgo.maven._core
import pytest

from telemetry_svc.embedded import lock_jars
from telemetry_svc.embedded.directory import default_cache_dir
from telemetry_svc.embedded.errors import EmbeddedUnavailable
from telemetry_svc.embedded.jars import Jar, fetch_jars, locked_jars, parse_line


class _Repository(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
async def small_jars() -> tuple[Jar, ...]:
    """Some small jars of the lock, whole in the user's cache."""
    wanted = tuple(jar for jar in locked_jars() if jar.artifact in {"jspecify", "slf4j-api", "jopt-simple"})
    await fetch_jars(default_cache_dir(), lambda _: None, wanted)
    return wanted


@pytest.fixture
def repository(small_jars: tuple[Jar, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback in place of the public one."""
    root = tmp_path / "repository"
    for jar in small_jars:
        path = jar.path_in(root)
        path.parent.mkdir(parents=True)
        path.write_bytes(jar.path_in(default_cache_dir() / "maven").read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Repository, directory=str(root))) as server:
        here = {"here": f"http://127.0.0.1:{server.server_port}"}
        monkeypatch.setattr(jgo.maven._core, "DEFAULT_REMOTE_REPOS", here)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield root
        server.shutdown()
        serving.join()


def test_the_lock_holds_one_broker_of_one_version() -> None:
    jars = locked_jars()
    coordinates = {str(jar) for jar in jars}
    assert set(lock_jars.ROOTS) <= coordinates
    assert len(coordinates) == len(jars)
    lock_jars.check(list(jars))


def test_a_lock_of_mixed_versions_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"kafka-clients:3\.9\.1"):
        lock_jars.check([Jar("org.apache.kafka", "kafka-clients", "3.9.1", "0" * 64)])


@pytest.mark.parametrize("line", ["a:b:1", "a:b sha256:00", "a:b:1 md5:00", f"a:b:1 sha256:{'0' * 63}"])
def test_a_broken_line_of_the_lock_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|not a line"):
        parse_line(line)


async def test_a_truncated_jar_is_fetched_again(repository: Path, small_jars: tuple[Jar, ...], tmp_path: Path) -> None:
    said: list[str] = []
    paths = await fetch_jars(tmp_path / "cache", said.append, small_jars)
    assert said[-1] == "downloading the Kafka jars 3/3"
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    paths[1].unlink()
    said.clear()
    assert await fetch_jars(tmp_path / "cache", said.append, small_jars) == paths
    assert said[-1] == "downloading the Kafka jars 2/2"
    assert paths[0].read_bytes() == whole


@pytest.mark.usefixtures("repository")
async def test_whole_jars_need_no_network(
    small_jars: tuple[Jar, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await fetch_jars(tmp_path / "cache", lambda _: None, small_jars)
    monkeypatch.setattr(jgo.maven._core, "DEFAULT_REMOTE_REPOS", {"none": "http://127.0.0.1:1"})
    assert await fetch_jars(tmp_path / "cache", pytest.fail, small_jars) == paths


@pytest.mark.parametrize("harm", ["other content", "absent", "unreachable"])
async def test_what_cannot_be_had_is_one_line(
    repository: Path, small_jars: tuple[Jar, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    jar = small_jars[0]
    match harm:
        case "other content":
            jar.path_in(repository).write_bytes(b"not that jar")
        case "absent":
            jar.path_in(repository).unlink()
        case _:
            monkeypatch.setattr(jgo.maven._core, "DEFAULT_REMOTE_REPOS", {"none": "http://127.0.0.1:1"})
    with pytest.raises(EmbeddedUnavailable, match="TELEMETRY_KAFKA_BOOTSTRAP") as refused:
        await fetch_jars(tmp_path / "cache", lambda _: None, (jar,))
    assert str(jar) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not jar.path_in(tmp_path / "cache" / "maven").exists()
