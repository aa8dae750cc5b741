"""Ties the version of each rule to its code: `rule_pins.json` holds a digest of what each module of `rules/` does.

    .venv/bin/python -m tests.style.rule_pins

pins the code as it stands and says of each module that changed whether its version rose. Comments, docstrings and
layout are no part of the digest. `test_rule_versions.py` fails while code and pins differ.
"""

import ast
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

RULES = Path(__file__).parents[2] / "src" / "telemetry_svc" / "rules"
PINS = Path(__file__).with_name("rule_pins.json")
DECIDES_NOTHING = {"__init__", "policy", "service_terms"}
MAKES_FACTS = {"Finding", "Promise"}
_LAYOUT = ("ctx", "kind")


class Pin(NamedTuple):
    """`version`: what the module declares; none where it decides nothing by itself."""

    version: int | None
    digest: str


def pin_of(source: str) -> Pin:
    """What a module declares and does."""
    tree = ast.parse(source)
    shape = json.dumps(_shape(tree)).encode()
    return Pin(_version(tree), hashlib.sha256(shape).hexdigest()[:16])


def code() -> dict[str, Pin]:
    """Every module by which something is decided, as it stands."""
    paths = [path for path in sorted(RULES.glob("*.py")) if path.stem not in DECIDES_NOTHING]
    return {path.stem: pin_of(path.read_text(encoding="utf-8")) for path in paths}


def pinned() -> dict[str, Pin]:
    """Every module as it was pinned."""
    return {name: Pin(*row) for name, row in json.loads(PINS.read_text(encoding="utf-8")).items()}


def decides(source: str) -> bool:
    """Whether a module tells facts of its own, so that it needs a version."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(isinstance(called, ast.Name) and called.id in MAKES_FACTS for called in calls)


def verdict(before: Pin | None, after: Pin) -> str | None:
    """What a change of one module means for its version; None where nothing changed."""
    if before is None or before.digest == after.digest:
        return "new" if before is None else None
    if after.version is None:
        return "shared code changed: raise VERSION of each rule that may now decide anything otherwise"
    if after.version == (before.version or 0):
        return f"still version {after.version}: raise VERSION if it may now decide anything otherwise"
    return f"version {before.version} -> {after.version}"


def _version(tree: ast.Module) -> int | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(one, "id", "") for one in node.targets] == ["VERSION"]:
            return int(ast.literal_eval(node.value))
    return None


def _shape(node: object) -> object:
    """The same for every Python version: no positions, no empty fields, no texts that stand alone."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _LAYOUT]
        return [type(node).__name__, *([name, _shape(value)] for name, value in fields if value not in (None, []))]
    if isinstance(node, list):
        return [_shape(one) for one in node if not _is_text(one)]
    return repr(node)


def _is_text(node: object) -> bool:
    """A docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main() -> None:
    before, after = pinned() if PINS.exists() else {}, code()
    for name, pin in after.items():
        if (said := verdict(before.get(name), pin)) is not None:
            print(f"{name}: {said}")
    PINS.write_text(
        json.dumps(after, indent=1).replace("[\n  ", "[").replace(",\n  ", ", ").replace("\n ]", "]") + "\n"
    )


if __name__ == "__main__":
    main()
