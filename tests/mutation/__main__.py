"""`make mutation`: are the rules held by their tests? Mutates every module of `rules/` and counts who is noticed.

Fails where fewer than 90 % of the mutants are killed, or where one survives that docs/mutation-survivors.md does not
name with a reason. All of it took 33 minutes in two processes on busy cores; name modules, or draw a sample of
functions, for less.
"""

import argparse
import ast
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tests.mutation.mutants import ROOT, RULES, Mutant, of_rules, place, run, snapshot
from tests.mutation.survivors import WANTED_PCT, Survivor, Verdict, judge, page, told

_TESTED_IN = {
    "checkups": ("warranty",),
    "inspections": ("forecast", "inspections"),
    "movement": ("movement", "position"),
    "usage": ("forecast",),
    "whereabouts": ("movement", "position"),
}
"""Where it is not the test file of the same name."""
EVERY_TEST = ("tests/rules", "--ignore=tests/rules/test_adding_a_rule.py")
"""All but the one that runs a copy of the package."""
SCENARIOS = (*EVERY_TEST, "--ignore=tests/rules/test_laws.py", "--ignore=tests/rules/test_reference.py")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    modules = tuple(options.modules) or tuple(sorted(path.stem for path in RULES.glob("[a-z]*.py")))
    functions = _drawn(modules, options.sample, options.seed) if options.sample else ()
    with tempfile.TemporaryDirectory(prefix="telemetry-mutation-") as folder:
        snapshot(Path(folder))
        mutants = list(_tried(Path(folder), modules, functions, options.children))
    verdict = judge(mutants, _expected(functions, modules, page()))
    print("\n".join(_report(mutants, verdict)))
    return 0 if verdict.is_good else 1


def _tried(work: Path, modules: tuple[str, ...], functions: tuple[str, ...], children: int) -> Iterator[Mutant]:
    """First against the tests of its own module, which kill most of them soon; who is left meets all the others."""
    left: list[Mutant] = []
    for tests, names in _by_nearest_tests(modules).items():
        patterns = tuple(one for one in functions if place(one)[0] in names)
        if functions and not patterns:
            continue
        print(f"== {', '.join(names)}: {' '.join(tests)}", flush=True)
        for one in run(work, of_rules(names, tests, patterns, children), shows_progress=True):
            if one.is_killed:
                yield one
            else:
                left.append(one)
    if left:
        print(f"== {len(left)} that are left: {' '.join(EVERY_TEST)}", flush=True)
        at_large = tuple(sorted({one.module for one in left}))
        plan = of_rules(at_large, EVERY_TEST, tuple(one.name for one in left), children)
        yield from run(work, plan, shows_progress=True)


def _by_nearest_tests(modules: tuple[str, ...]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The modules by their own test files; what has none is met by every scenario."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for module in modules:
        files = tuple(f"tests/rules/test_{name}.py" for name in _TESTED_IN.get(module, (module,)))
        tests = files if all((ROOT / file).exists() for file in files) else SCENARIOS
        found[tests] = (*found.get(tests, ()), module)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="modules of rules/ by name, such as storm; all without any")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only N functions, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="mutants at once")
    return parser


def _drawn(modules: tuple[str, ...], number: int, seed: int) -> tuple[str, ...]:
    """mutmut's names for the mutants of so many functions."""
    names = [f"telemetry_svc.rules.{module}.{name}__mutmut_*" for module in modules for name in _functions(module)]
    return tuple(random.Random(seed).sample(names, min(number, len(names))))


def _functions(module: str) -> list[str]:
    names: list[str] = []
    for node in ast.parse((RULES / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.append(f"x_{node.name}")
        elif isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef) and not one.decorator_list)
            names.extend(f"xǁ{node.name}ǁ{one.name}" for one in methods)
    return names


def _expected(functions: tuple[str, ...], modules: tuple[str, ...], may_live: Counter[Survivor]) -> Counter[Survivor]:
    """The part of the list that this run can have met."""
    if not functions:
        return Counter({one: number for one, number in may_live.items() if one[0] in modules})
    places = {place(one) for one in functions}
    return Counter({one: number for one, number in may_live.items() if one[:2] in places})


def _report(mutants: list[Mutant], verdict: Verdict) -> list[str]:
    lines = [f"{'module':<18}{'mutants':>8}{'killed':>8}{'alive':>7}"]
    for module, group in groupby(sorted(mutants), key=lambda one: one.module):
        those = list(group)
        killed = sum(one.is_killed for one in those)
        lines.append(f"{module:<18}{len(those):>8}{killed:>8}{len(those) - killed:>7}")
    share_pct = 100 * verdict.killed / max(verdict.total, 1)
    lines.append(f"{verdict.killed} of {verdict.total} mutants killed: {share_pct:.1f} % (at least {WANTED_PCT} %)")
    if verdict.gone:
        lines += ["", "Listed and not met any more (take them off the page):", "", told(verdict.gone)]
    if verdict.unlisted:
        lines += ["", "Alive and on no list (kill them, or list them with a reason):", "", told(verdict.unlisted)]
    return lines


if __name__ == "__main__":
    sys.exit(main())
