"""What is asked for quickly is told quickly: `--help` and the policy editions import no server and no client."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from telemetry_svc.cli import _COMMANDS, build

HEAVY = {"aiokafka", "alembic", "apscheduler", "cryptography", "fastapi", "sqlalchemy", "uvicorn"}


def _imported(home: Path, *argv: str) -> set[str]:
    """Top-level packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "telemetry_svc", *argv]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=home)
    assert ended.stdout
    return {name.partition(".")[0] for name in re.findall(r"\| +(\S+)$", ended.stderr, re.MULTILINE)}


@pytest.mark.parametrize(
    "argv",
    [("--help",), ("--version",), ("policy", "--help"), ("policy", "show", "zoomlion-2011-rev1")],
    ids=" ".join,
)
def test_what_needs_no_server_imports_none(tmp_path: Path, argv: tuple[str, ...]) -> None:
    imported = _imported(tmp_path, *argv)
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_what_needs_them_is_seen_to_import_them(tmp_path: Path) -> None:
    assert _imported(tmp_path, "ingest", "--help") >= HEAVY


def test_the_list_says_of_each_command_what_it_says_of_itself() -> None:
    group = get_command(build())
    commands = getattr(group, "commands", {})
    assert list(commands) == list(_COMMANDS)
    for name, late in _COMMANDS.items():
        assert late.help == commands[name].get_short_help_str(1_000)
    listed = CliRunner().invoke(build(), ["--help"], env={"COLUMNS": "300"}).output
    assert re.findall(r"^  ([\w-]+)  +\S", listed.partition("Commands:")[2], re.MULTILINE) == list(_COMMANDS)


def test_a_slip_of_the_pen_is_told_the_nearest_command() -> None:
    told = CliRunner().invoke(build(), ["migrat"])
    assert told.exit_code == 2
    assert "Did you mean 'migrate'?" in told.output


def test_the_version() -> None:
    assert CliRunner().invoke(build(), ["--version"]).output == f"telemetry-svc {version('telemetry-svc')}\n"
