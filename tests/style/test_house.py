"""The laws of the house (style.md, 12) over every module of it; the failure lists the offenders."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.style import rules

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "telemetry_svc"
QUIET_IMPORT = Path(__file__).with_name("quiet_import.py")


def modules(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


HOUSE = list(modules(SOURCE))
EVERYTHING = list(modules(SOURCE, ROOT / "tests", ROOT / "benchmarks"))


def offences(law: Callable[[str], list[str]], paths: list[Path]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{one}" for path in paths for one in law(path.read_text(encoding="utf-8"))]


def test_there_is_a_house_to_look_at() -> None:
    assert len(HOUSE) > 100
    assert len(EVERYTHING) > len(HOUSE)


@pytest.mark.parametrize("law", [rules.long_functions, rules.long_module], ids=lambda law: law.__name__)
def test_nothing_is_too_long(law: Callable[[str], list[str]]) -> None:
    assert offences(law, EVERYTHING) == []


def test_functions_are_small() -> None:
    """Nine in ten have at most 30 lines, half of them at most 8."""
    sized = [
        (lines, f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")
        for path in HOUSE
        for node, lines in rules.functions(path.read_text(encoding="utf-8"))
    ]
    assert statistics.median(lines for lines, _ in sized) <= 8
    over = sorted((one for one in sized if one[0] > 30), reverse=True)
    assert len(over) <= len(sized) / 10, over


def test_every_module_has_a_name_that_says_something() -> None:
    assert [path for path in EVERYTHING if rules.nameless(path.relative_to(ROOT))] == []


def test_every_module_says_why_it_exists() -> None:
    assert offences(rules.docstring, HOUSE) == []


def test_only_the_clock_asks_what_time_it_is() -> None:
    assert offences(rules.asks_the_time, [path for path in HOUSE if path != SOURCE / "clock.py"]) == []
    assert offences(rules.asks_the_time, [SOURCE / "clock.py"]) != []


def test_nobody_swallows_what_he_does_not_know() -> None:
    assert offences(rules.swallows, HOUSE) == []


def test_the_rules_name_no_edition() -> None:
    """Clauses are data: a number of the policy stands in a policy file, never in code."""
    editions = {path.stem for path in SOURCE.rglob("*.yaml")} | {"zoomlion-2011", "zoomlion-2011-rev1"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in modules(SOURCE / "rules")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in editions
    ]
    assert found == []


def test_importing_does_no_work() -> None:
    """Every module, in a fresh interpreter: none of ours opens a file or a socket, or starts a thread or a process."""
    names = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__") for path in HOUSE
    ]
    imported = subprocess.run(
        [sys.executable, str(QUIET_IMPORT), str(SOURCE), *(name for name in names if not name.endswith("__main__"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.splitlines() == []


def test_work_at_import_would_be_seen(tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.mkdir()
    for name, work in {
        "file": "from pathlib import Path\nTEXT = Path(__file__).read_text()",
        "socket": "import socket\nsocket.socket().close()",
        "process": "import subprocess, sys\nsubprocess.run([sys.executable, '--version'], capture_output=True)",
        "thread": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
        "idle": "import tempfile\nclass C:\n    def f(self):\n        return open(__file__)",
    }.items():
        (busy / f"{name}.py").write_text(work, encoding="utf-8")
    (busy / "__init__.py").write_text("", encoding="utf-8")
    names = [f"busy.{name}" for name in ("file", "socket", "process", "thread", "idle")]
    imported = subprocess.run(
        [sys.executable, str(QUIET_IMPORT), str(busy), *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert imported.returncode == 0, imported.stderr
    seen = {line.split(":")[0] for line in imported.stdout.splitlines()}
    assert seen == {"busy/file.py", "busy/socket.py", "busy/process.py", "busy.thread"}
