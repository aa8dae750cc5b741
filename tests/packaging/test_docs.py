"""What the documents say exists: links, commands with their options, make targets, settings, files of the code.

A document is true on the day it is written and false on the day after a rename; these tests are that day's notice.
"""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from telemetry_svc.store.schema import metadata
from tests.packaging import mentions
from tests.packaging.project import ROOT, app, commands, make_targets, settings_names

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
EACH = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
TEST_SETTINGS = {"TELEMETRY_TEST_SCALE"}
README_COMMANDS = sorted(mentions.commands((ROOT / "README.md").read_text()))
_CODE_FILE = re.compile(r"`((?:src/telemetry_svc/)?[a-z_]+(?:/[a-z_0-9]+)*/[a-z_0-9]+\.(?:py|yaml|csv|lock))`")
_ADR_PAGE_LINES = 60


@EACH
def test_links_lead_somewhere(path: Path) -> None:
    for link in mentions.links(path.read_text()):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in mentions.anchors(target), link


@EACH
def test_commands_exist_with_their_options(path: Path) -> None:
    known = commands()
    for command in mentions.commands(path.read_text()):
        plain, options = mentions.words(command)
        name = next((" ".join(plain[:n]) for n in range(len(plain), 0, -1) if " ".join(plain[:n]) in known), "")
        assert name or not plain, command
        assert set(options) <= known[name], command


@pytest.mark.parametrize("command", README_COMMANDS)
def test_help_of_every_command_in_the_readme(command: str) -> None:
    plain, _ = mentions.words(command)
    known = commands()
    name = next((plain[:n] for n in range(len(plain), 0, -1) if " ".join(plain[:n]) in known), [])
    asked = CliRunner().invoke(app(), [*name, "--help"])
    assert asked.exit_code == 0
    assert "Usage:" in asked.output


def test_the_readme_names_commands_at_all() -> None:
    assert {"up", "demo", "migrate"} <= {mentions.words(command)[0][0] for command in README_COMMANDS}


@EACH
def test_make_targets_exist(path: Path) -> None:
    assert mentions.make_targets(path.read_text()) <= make_targets()


def test_the_readme_names_the_two_commands() -> None:
    assert {"demo", "test"} <= mentions.make_targets((ROOT / "README.md").read_text())


@EACH
def test_settings_exist(path: Path) -> None:
    assert mentions.settings(path.read_text()) <= settings_names() | TEST_SETTINGS


def test_every_setting_is_in_the_readme() -> None:
    files = {name for name in settings_names() if name.removesuffix("_FILE") in settings_names() - {name}}
    assert settings_names() - files <= mentions.settings((ROOT / "README.md").read_text())


def test_settings_of_the_tests_are_read_by_them() -> None:
    conftest = (ROOT / "tests/conftest.py").read_text()
    assert all(name in conftest for name in TEST_SETTINGS)


@EACH
def test_files_of_the_code_exist(path: Path) -> None:
    for name in _CODE_FILE.findall(path.read_text()):
        places = (ROOT / name, ROOT / "src/telemetry_svc" / name)
        assert any(place.is_file() for place in places), name


@EACH
def test_no_path_of_the_machine_it_was_written_on(path: Path) -> None:
    assert not re.search(r"/(?:work|root|tmp|home/[a-z]+)/", path.read_text())


def test_every_table_is_in_the_architecture() -> None:
    named = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/architecture.md").read_text()))
    assert {table.name for table in metadata.sorted_tables} <= named


def test_every_room_is_in_the_architecture() -> None:
    package = ROOT / "src/telemetry_svc"
    folders = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    named = set(re.findall(r"`([a-z_/.]+)`", (ROOT / "docs/architecture.md").read_text()))
    assert folders | modules <= named


ADRS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.stem)
def test_a_decision_fits_a_page_and_has_its_parts(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= _ADR_PAGE_LINES
    assert lines[0].startswith(f"# {path.name[:4]} ")
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Context", "## Decision", "## Consequences"]


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.stem)
def test_the_architecture_lists_every_decision(path: Path) -> None:
    assert f"adr/{path.name}" in mentions.links((ROOT / "docs/architecture.md").read_text())
