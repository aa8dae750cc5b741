"""Policy files from disk to frozen editions, and every fault of a file with its line.

Policies load at start; a bad file stops the start with one clear line (faults.md, 44).
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from telemetry_svc.policies.catalogue import load_catalogue
from telemetry_svc.policies.document import Document
from telemetry_svc.policies.freezing import freeze
from telemetry_svc.policies.laws import broken
from telemetry_svc.policies.lines import Lines
from telemetry_svc.rules.policy import Policy
from telemetry_svc.telemetry import EditionId


class Finding(NamedTuple):
    """One fault of a policy file; as text `file:line: reason`."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class PolicyError(Exception):
    """A policy file that must not be used; its text is one line `file:line: reason`."""


def load_policies(directory: Path | None = None) -> Mapping[EditionId, Policy]:
    """The built-in editions, added to or overridden by the files (`*.yaml`, `*.yml`) of `directory`.

    Raises `PolicyError` for the first fault of any file, or where two files of the directory are the same edition.
    """
    policies = {policy.edition: policy for policy in map(load_file, _built_in())}
    if directory is None:
        return policies
    if not directory.is_dir():
        raise PolicyError(f"{directory}:0: no such directory of policy files")
    own: dict[EditionId, Path] = {}
    for path in sorted(path for path in directory.iterdir() if path.suffix in (".yaml", ".yml")):
        policy = load_file(path)
        if policy.edition in own:
            raise PolicyError(f"{path}:1: the edition {policy.edition} also stands in {own[policy.edition]}")
        own[policy.edition] = path
        policies[policy.edition] = policy
    return policies


def _built_in() -> list[Path]:
    return sorted(_editions().glob("*.yaml"))


def _editions() -> Path:
    return Path(str(files("telemetry_svc.policies") / "editions"))


def built_in_file(edition: EditionId) -> Path:
    """The file of a built-in edition."""
    return _editions() / f"{edition}.yaml"


def load_file(path: Path) -> Policy:
    """One edition; raises `PolicyError`."""
    policy, findings = _examined(path)
    if policy is None:
        raise PolicyError(str(findings[0]))
    return policy


def check_files(paths: Iterable[Path]) -> list[Finding]:
    """Every fault of every file, in the order of the files and their lines."""
    return [finding for path in paths for finding in _examined(path)[1]]


def _examined(path: Path) -> tuple[Policy | None, list[Finding]]:
    """The policy, or all that is wrong with its file."""
    content = b""
    try:
        content = path.read_bytes()
        policy, faults = _judged(content)
    except OSError as error:
        policy, faults = None, [(0, error.strerror or "cannot be read")]
    except UnicodeDecodeError as error:
        policy, faults = None, [(content.count(b"\n", 0, error.start) + 1, "not UTF-8")]
    except yaml.YAMLError as error:
        policy, faults = None, [_not_yaml(error)]
    return policy, [Finding(str(path), line, reason) for line, reason in sorted(faults)]


def _judged(content: bytes) -> tuple[Policy | None, list[tuple[int, str]]]:
    lines = Lines(content.decode())
    if lines.faults:
        return None, lines.faults
    try:
        document = Document.model_validate(lines.value())
    except ValidationError as error:
        shapes = [_fault(fault["loc"], fault["type"], fault["msg"], lines) for fault in error.errors()]
        return None, shapes + _laws_beside(error, lines)
    faults = [(lines.at(where), reason) for where, reason in broken(document, frozenset(load_catalogue().spns))]
    return (None, faults) if faults else (freeze(document, sha256(content).hexdigest()), [])


def _laws_beside(error: ValidationError, lines: Lines) -> list[tuple[int, str]]:
    """The laws that are broken where the shape is right: the rest is read as it stands in a good edition."""
    value, wrong = lines.value(), [fault["loc"] for fault in error.errors()]
    good = yaml.safe_load(_built_in()[0].read_text())
    for where in wrong:
        value = _with_good(value, good, where)
    try:
        document = Document.model_validate(value)
    except ValidationError:
        return []
    found = broken(document, frozenset(load_catalogue().spns))
    return [(lines.at(at), reason) for at, reason in found if not any(at[: len(where)] == where for where in wrong)]


def _with_good(value: Any, good: Any, where: Sequence[str | int]) -> Any:
    """`value` with what stands at `where` replaced by what a good edition has there, or taken out if it has nothing."""
    if not where or not isinstance(value, dict) or not isinstance(good, dict):
        return good
    name, *rest = where
    others = {key: one for key, one in value.items() if key != name}
    return others if name not in good else {**others, name: _with_good(value.get(name), good[name], rest)}


def _fault(loc: tuple[int | str, ...], kind: str, message: str, lines: Lines) -> tuple[int, str]:
    name = ".".join(map(str, loc)) or "the file"
    match kind:
        case "missing":
            reason = f"{name} is missing"
        case "extra_forbidden":
            reason = f"{name} is not known"
        case _:
            reason = f"{name}: {message.removeprefix('Value error, ')}"
    return lines.at(loc), reason


def _not_yaml(error: yaml.YAMLError) -> tuple[int, str]:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return (1 if mark is None else mark.line + 1), f"not YAML: {problem}"
