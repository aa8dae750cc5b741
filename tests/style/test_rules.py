"""Each law of the house finds what it forbids, and nothing in what it allows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.style import rules

Law = Callable[[str], list[str]]
OFFENCES: dict[str, tuple[Law, str]] = {
    "a_function_of_51_lines": (rules.long_functions, "def f():\n" + "    x = 1\n" * 50),
    "a_method_of_51_lines": (rules.long_functions, "class C:\n    async def f(self):\n" + "        x = 1\n" * 50),
    "a_module_of_401_lines": (rules.long_module, "x = 1\n" * 401),
    "no_docstring": (rules.docstring, "x = 1\n"),
    "an_empty_docstring": (rules.docstring, '"""   """\n'),
    "a_docstring_of_16_lines": (rules.docstring, '"""' + "why\n" * 16 + '"""'),
    "now": (rules.asks_the_time, "at = datetime.now(UTC)"),
    "now_by_its_full_name": (rules.asks_the_time, "at = datetime.datetime.utcnow()"),
    "today": (rules.asks_the_time, "day = date.today()"),
    "now_not_called": (rules.asks_the_time, "field(default_factory=datetime.now)"),
    "time": (rules.asks_the_time, "at = time.time()"),
    "time_imported": (rules.asks_the_time, "from time import monotonic, time"),
    "bare_except": (rules.swallows, "try:\n    f()\nexcept:\n    pass"),
    "except_and_log": (rules.swallows, "try:\n    f()\nexcept Exception:\n    log.exception('x')"),
    "except_and_go_on": (rules.swallows, "for x in y:\n    try:\n        f()\n    except Exception:\n        continue"),
    "except_one_of_several": (rules.swallows, "try:\n    f()\nexcept (OSError, Exception) as e:\n    print(e)"),
    "except_and_return_nothing": (
        rules.swallows,
        "def g():\n  try:\n    f()\n  except Exception:\n    return None",
    ),
    "except_and_raise_sometimes": (rules.swallows, "try:\n    f()\nexcept BaseException:\n    if x:\n        raise"),
    "except_with_a_raise_in_a_function_within": (
        rules.swallows,
        "try:\n    f()\nexcept Exception:\n    def g():\n        raise ValueError",
    ),
    "suppress_everything": (rules.swallows, "with contextlib.suppress(Exception):\n    f()"),
}
ALLOWED: dict[str, tuple[Law, str]] = {
    "a_function_of_50_lines": (rules.long_functions, "@decorated\ndef f():\n" + "    x = 1\n" * 49),
    "a_module_of_400_lines": (rules.long_module, "x = 1\n" * 400),
    "a_docstring_of_15_lines": (rules.docstring, '"""' + "why\n" * 15 + '"""'),
    "monotonic": (rules.asks_the_time, "from time import monotonic\nat = time.monotonic() + clock.now()"),
    "strptime": (rules.asks_the_time, "datetime.fromtimestamp(0, UTC); timer.time()"),
    "a_named_error": (rules.swallows, "try:\n    f()\nexcept OSError:\n    pass"),
    "log_and_raise": (rules.swallows, "try:\n    f()\nexcept Exception:\n    log()\n    raise"),
    "a_named_outcome": (
        rules.swallows,
        "def g():\n  try:\n    f()\n  except Exception as e:\n    return Failed(e)",
    ),
    "suppress_a_named_error": (rules.swallows, "with suppress(TimeoutError):\n    f()"),
}


@pytest.mark.parametrize(("law", "source"), OFFENCES.values(), ids=OFFENCES)
def test_it_finds_what_it_forbids(law: Law, source: str) -> None:
    assert len(law(source)) == 1


@pytest.mark.parametrize(("law", "source"), ALLOWED.values(), ids=ALLOWED)
def test_it_lets_pass_what_it_allows(law: Law, source: str) -> None:
    assert law(source) == []


@pytest.mark.parametrize("path", ["store/utils.py", "common/fence.py", "helpers/__init__.py"])
def test_a_name_that_says_nothing_is_found(path: str) -> None:
    assert len(rules.nameless(Path(path))) == 1


def test_a_name_that_says_something_is_not() -> None:
    assert rules.nameless(Path("telemetry_svc/commons/util_vectors.py")) == []
