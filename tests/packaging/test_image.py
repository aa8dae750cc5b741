"""The image: what of it can be held to its promises without an engine that builds it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.packaging.dockerfile import environment, of, stages
from tests.packaging.project import ROOT, commands, settings_names

PINNED = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)?:\d+\.\d[\w.-]*")
"""An image by name and version; no registry address (it would have a dot or a colon before the first slash)."""


def test_two_stages_and_the_second_takes_only_the_installed_service() -> None:
    build, final = stages()
    assert of(final, "COPY") == ["--from=build /opt/telemetry-svc /opt/telemetry-svc"]
    assert of(build, "FROM")[0].endswith(" AS build")


@pytest.mark.parametrize("stage", [0, 1], ids=["build", "final"])
def test_base_images_are_pinned_by_version(stage: int) -> None:
    (base,) = of(stages()[stage], "FROM")
    assert PINNED.fullmatch(base.removesuffix(" AS build"))


def test_both_stages_have_the_same_python() -> None:
    build, final = stages()
    assert of(build, "FROM")[0].removesuffix(" AS build") == of(final, "FROM")[0]


def test_it_runs_as_a_user_without_rights() -> None:
    final = stages()[-1]
    (user,) = of(final, "USER")
    assert user.split(":")[0].isdigit()
    assert int(user.split(":")[0]) >= 1000
    assert final.index(next(one for one in final if one.keyword == "USER")) > max(
        place for place, one in enumerate(final) if one.keyword in {"RUN", "COPY"}
    )


def test_the_role_is_the_command() -> None:
    final = stages()[-1]
    assert json.loads(of(final, "ENTRYPOINT")[0]) == ["telemetry-svc"]
    assert json.loads(of(final, "CMD")[0]) == ["--help"]
    assert {"gateway", "ingest", "notify", "schedule", "api", "migrate"} <= commands().keys()


def test_its_settings_exist_and_it_listens_where_others_reach_it() -> None:
    ours = {name: value for name, value in environment(stages()[-1]).items() if name.startswith("TELEMETRY_")}
    assert ours.keys() <= settings_names()
    assert ours["TELEMETRY_HTTP_HOST"] == "0.0.0.0"


def test_every_download_is_checked_by_hash() -> None:
    steps = [step.strip() for run in of(stages()[0], "RUN") for step in run.split("&&")]
    installs = [step for step in steps if "pip install" in step or "uv build" in step]
    assert len(installs) == 4
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install, install


def test_the_build_context_holds_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {source for rest in of(stages()[0], "COPY") for source in rest.split()[:-1]}
    assert "*" in ignored
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_secrets_and_virtual_environments_stay_out() -> None:
    let_through = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for kept in (".env", "secrets/database-url", ".venv/bin/python", ".git/config"):
        assert not any(fnmatch(kept, pattern) or kept.startswith(f"{pattern}/") for pattern in let_through)


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)], ids=["live", "not-live"])
def test_the_health_check_asks_livez(status: int, exit_code: int) -> None:
    with _service(status) as (port, paths):
        assert _check(port) == exit_code
    assert paths == ["/livez"]


def test_the_health_check_fails_where_nobody_listens() -> None:
    with _service(200) as (port, _):
        pass
    assert _check(port) == 1


def _check(port: int) -> int:
    (rest,) = of(stages()[-1], "HEALTHCHECK")
    python, *arguments = json.loads(rest.partition("CMD ")[2])
    assert python == "python"
    asked = subprocess.run(
        [sys.executable, *arguments], env={"TELEMETRY_HTTP_PORT": str(port)}, capture_output=True, check=False
    )
    return asked.returncode


@contextmanager
def _service(status: int) -> Iterator[tuple[int, list[str]]]:
    """A port on which everything is answered by one status, and the paths that were asked for."""
    paths: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Answering)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield server.server_port, paths
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
