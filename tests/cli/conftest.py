"""One process that has imported the command line, and one running `up`, for all tests of a session."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.programs import Cli, Program, command_line, installed


class RunningUp(NamedTuple):
    """An `up` and what it printed."""

    program: Program
    home: Path
    address: str
    kafka: str
    key: str


@contextmanager
def _enterable_folder() -> Iterator[Path]:
    """A folder that any user may enter, for as root PostgreSQL runs as another."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-cli-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    with _enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cli() -> Iterator[Cli]:
    """Commands in a folder where nothing runs."""
    with _enterable_folder() as folder, command_line(folder) as cli:
        yield cli


@pytest.fixture(scope="session")
def up() -> Iterator[RunningUp]:
    """A running `up` in a folder of its own."""
    with _enterable_folder() as folder, installed(folder, "up") as running:
        address = running.says(r"^  HTTP +(http://\S+)")[1]
        kafka = running.says(r"^  Kafka +(\S+)")[1]
        key = running.says(r"^  admin key +(tsk_\S+)\n +shown once")[1]
        yield RunningUp(running, folder, address, kafka, key)
