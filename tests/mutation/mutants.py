"""Mutants of the rules by mutmut, each run against the tests of the rules in a fork of a warm process.

It all happens in a throw-away folder: mutmut wants a `mutants/` beside the code, and one that is left over there is
collected by pytest and found by importers in place of the code. The folder has a copy of the code and of the tests of
the rules, which need neither the database nor pytest's plugins (Hypothesis' excepted).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).parents[2]
RULES = ROOT / "src" / "telemetry_svc" / "rules"
KILLED = ("killed", "timeout")
"""A mutant that runs into mutmut's limit (15 times what its tests need) is one that no longer ends: noticed, too."""

UNTRIED = "not checked"

_NEEDED = ("src", "examples", "tests/__init__.py", "tests/policies", "tests/rules")
_ARGUMENTS = ("-p", "_hypothesis_pytestplugin", "--hypothesis-seed=1", "-p", "no:cacheprovider")
"""A seed: which mutants survive must not be a matter of luck."""

_PYTEST = """\
[tool.pytest.ini_options]
pythonpath = ["."]
addopts = ["--strict-markers", "--strict-config", "--import-mode=importlib"]
markers = ["uncounted: nothing here counts anything"]
filterwarnings = ["error"]
"""
_NAME = re.compile(r"([^.]+)\.x(?:_|ǁ)(.+)__mutmut_(?:\d+|\*)$")


class Plan(NamedTuple):
    """Which files of `src/` are mutated against which tests; `functions` (patterns of names) narrows it further."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    copied: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    children: int = 1


class Mutant(NamedTuple):
    """`name`: mutmut's; `change`: the lines taken out and put in, each with its sign, of one that was not killed."""

    name: str
    module: str
    function: str
    status: str
    change: tuple[str, ...] = ()

    @property
    def is_killed(self) -> bool:
        return self.status in KILLED


def of_rules(modules: tuple[str, ...], tests: tuple[str, ...], functions: tuple[str, ...], children: int) -> Plan:
    """Modules of the rules by name, against tests of the rules; `functions` (patterns) narrows it further."""
    paths = tuple(f"src/telemetry_svc/rules/{name}.py" for name in modules)
    return Plan(paths, tests, ("examples",), functions, children)


def snapshot(folder: Path) -> None:
    """A copy of what the rules and their tests need of the project: no edit meanwhile may mix two states of it."""
    for name in _NEEDED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def run(work: Path, plan: Plan, *, shows_progress: bool = False) -> list[Mutant]:
    """Every mutant of the plan with what became of it, in a folder of the project's form.

    Raises `RuntimeError` where mutmut cannot run.
    """
    shutil.rmtree(work / "mutants", ignore_errors=True)
    _configure(work / "pyproject.toml", plan)
    ran = _mutmut(work, "run", "--max-children", str(plan.children), *plan.functions, is_shown=shows_progress)
    if ran.returncode != 0:
        raise RuntimeError(f"mutmut run failed ({ran.returncode}):\n{(ran.stdout or '')[-3_000:]}")
    return [one for path in plan.files for one in _results(work, path) if not plan.functions or one.status != UNTRIED]


def _results(work: Path, path: str) -> list[Mutant]:
    """What mutmut wrote down of the mutants of one file."""
    exit_codes = json.loads((work / "mutants" / f"{path}.meta").read_text(encoding="utf-8"))["exit_code_by_key"]
    with chdir(work):
        return [_mutant(path, name, status_by_exit_code[code]) for name, code in exit_codes.items()]


def _configure(pyproject: Path, plan: Plan) -> None:
    table = {
        "source_paths": ["src"],
        "only_mutate": plan.files,
        "also_copy": plan.copied,
        "pytest_add_cli_args_test_selection": plan.tests,
        "pytest_add_cli_args": _ARGUMENTS,
    }
    lines = [f"{name} = {json.dumps(values)}" for name, values in table.items()]
    pyproject.write_text("\n".join([_PYTEST, "[tool.mutmut]", *lines, ""]), encoding="utf-8")


def _mutmut(work: Path, *arguments: str, is_shown: bool) -> "subprocess.CompletedProcess[str]":
    settings = {"TELEMETRY_TEST_SCALE": "0.1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [str(Path(sys.executable).parent / "mutmut"), *arguments],
        cwd=work,
        env=os.environ | settings,
        stdout=None if is_shown else subprocess.PIPE,
        stderr=None if is_shown else subprocess.STDOUT,
        text=True,
        check=False,
    )


def place(name: str) -> tuple[str, str]:
    """The module and the function that one of mutmut's names (or patterns of a function's names) stands for."""
    found = _NAME.search(name)
    if found is None:
        raise ValueError(f"not a mutant's name: {name}")
    return found[1], found[2].replace("ǁ", ".")


def _mutant(path: str, name: str, status: str) -> Mutant:
    change = () if status in (*KILLED, UNTRIED) else _change(get_diff_for_mutant(name, path=path))
    return Mutant(name, *place(name), status, change)


def _change(diff: str) -> tuple[str, ...]:
    lines = diff.splitlines()[2:]  # without the names of the files
    return tuple(f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in ("-", "+"))
