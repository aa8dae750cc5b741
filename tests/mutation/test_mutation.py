"""The mutation test of the rules can fail, and a small part of it is run each time: the whole is `make mutation`."""

from pathlib import Path

import pytest

from tests.mutation import survivors
from tests.mutation.mutants import RULES, Mutant, Plan, of_rules, run, snapshot
from tests.mutation.survivors import judge, listed, told

RULE = """\
def is_due(hours_h: float) -> bool:
    return hours_h >= 250
"""
AROUND = """\
from tiny.limits import is_due

def test_both_sides() -> None:
    assert not is_due({under})
    assert is_due({over})
"""
ALIVE = Mutant(
    "tiny.limits.x_is_due__mutmut_1",
    "limits",
    "is_due",
    "survived",
    ("- return hours_h >= 250", "+ return hours_h > 250"),
)
DEAD = Mutant("tiny.limits.x_is_due__mutmut_2", "limits", "is_due", "killed")
KNOWN = (ALIVE.module, ALIVE.function, ALIVE.change)


def of_a_tiny_project(work: Path, under: float, over: float) -> list[Mutant]:
    (work / "src" / "tiny").mkdir(parents=True)
    (work / "src" / "tiny" / "__init__.py").touch()
    (work / "src" / "tiny" / "limits.py").write_text(RULE)
    (work / "tests").mkdir()
    (work / "tests" / "test_limits.py").write_text(AROUND.format(under=under, over=over))
    return run(work, Plan(files=("src/tiny/limits.py",), tests=("tests",)))


@pytest.mark.parametrize(
    ("under", "over", "alive"),
    [
        pytest.param(249.99, 251, {"> 250", ">= 251"}, id="not at the limit itself"),
        pytest.param(249.99, 250, set(), id="both sides of it"),
    ],
)
def test_a_mutant_lives_where_a_test_is_missing(tmp_path: Path, under: float, over: float, alive: set[str]) -> None:
    found = of_a_tiny_project(tmp_path, under, over)
    assert {one.change[1].removeprefix("+ return hours_h ") for one in found if not one.is_killed} == alive
    assert len(found) == 2
    assert judge(found, listed("")).is_good is (not alive)


def test_days_of_a_promise_are_held_by_their_own_tests(tmp_path: Path) -> None:
    """The short version: two functions against one test file."""
    snapshot(tmp_path)
    functions = tuple(f"telemetry_svc.rules.zone_time.x_{name}__mutmut_*" for name in ("next_day", "days_before"))
    found = run(tmp_path, of_rules(("zone_time",), ("tests/rules/test_zone_time.py",), functions, children=1))
    assert {one.function for one in found} == {"next_day", "days_before"}
    assert len(found) > 10
    assert judge(found, listed("")).unlisted == ()


@pytest.mark.parametrize(
    ("mutants", "is_good"),
    [
        pytest.param([DEAD] * 9 + [ALIVE], True, id="9 of 10, the other one listed"),
        pytest.param([DEAD] * 89 + [ALIVE] * 11, False, id="89 %"),
        pytest.param([DEAD] * 18 + [ALIVE] * 2, False, id="one listed, two alive"),
        pytest.param([DEAD] * 9 + [ALIVE._replace(function="is_over")], False, id="another function"),
        pytest.param(
            [DEAD] * 9 + [ALIVE._replace(status="no tests")], True, id="a mutant that no test meets lives, too"
        ),
        pytest.param([DEAD] * 9 + [ALIVE._replace(status="timeout")], True, id="one that never ends is noticed"),
        pytest.param([], False, id="nothing was tried"),
    ],
)
def test_the_verdict(mutants: list[Mutant], is_good: bool) -> None:
    page = "## limits.py\n\nOnly 250.00 itself would tell.\n\n" + told([KNOWN]).partition("\n\n")[2]
    assert judge(mutants, listed(page)).is_good is is_good


def test_a_survivor_needs_a_reason() -> None:
    page = told([KNOWN])
    with pytest.raises(ValueError, match=r"limits: a survivor without a reason: is_due"):
        listed(page)


def test_what_is_listed_and_killed_is_told() -> None:
    page = "## limits.py\n\nA reason.\n\n```diff\nis_due\n- a\n+ b\n```\n"
    assert judge([DEAD], listed(page)).gone == (("limits", "is_due", ("- a", "+ b")),)


def test_the_page_names_functions_of_the_rules_and_lines_that_stand_there() -> None:
    for module, function, change in survivors.page():
        text = (RULES / f"{module}.py").read_text(encoding="utf-8")
        assert f"def {function.rpartition('.')[2]}(" in text
        for line in change:
            assert line.startswith("+ ") or line.removeprefix("- ") in text, (module, function, line)
