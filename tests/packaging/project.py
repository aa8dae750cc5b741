"""What the packaging tests know of the project: its files, its settings, its commands."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer
import yaml
from typer.main import get_command

from telemetry_svc.cli import build
from telemetry_svc.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent.parent
SECRETS = ("DATABASE_URL", "KAFKA_SASL_PASSWORD", "PERSONAL_DATA_KEYS")
"""Settings that may come from a file, under their name with `_FILE` (telemetry_svc.settings)."""


def settings_names() -> set[str]:
    """Every variable that the service reads."""
    return {PREFIX + name.upper() for name in Settings.model_fields} | {f"{PREFIX}{name}_FILE" for name in SECRETS}


def compose() -> dict[str, dict[str, dict[str, object]]]:
    """compose.yaml with its merges done."""
    document: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def commands() -> Mapping[str, set[str]]:
    """Every command line that exists (`up`, `keys create` …) with the options that it takes; groups too."""
    return dict(_commands("", get_command(build())))


def _commands(path: str, command: object) -> Iterator[tuple[str, set[str]]]:
    options = {name for parameter in getattr(command, "params", ()) for name in parameter.opts}
    yield path, options | {"--help"}
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}".strip(), inner)


def app() -> typer.Typer:
    """The command line itself."""
    return build()


def make_targets() -> set[str]:
    """Targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def pins(lock: str) -> dict[str, str]:
    """What a lock file says of each package: version, marker and hashes."""
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text().strip())
    return {entry.partition("==")[0]: entry for entry in entries}
