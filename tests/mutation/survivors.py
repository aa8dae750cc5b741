"""The mutants that may live (docs/mutation-survivors.md), and the judgement of a run against them.

A survivor is named by its module, its function and its changed lines, not by mutmut's number, which any edit of the
function moves. Each stands under the reason why no test can or need kill it; one without a reason is no entry.
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import ROOT, Mutant

PAGE = ROOT / "docs" / "mutation-survivors.md"
WANTED_PCT = 90

Survivor = tuple[str, str, tuple[str, ...]]
"""Module, function, changed lines."""

_SECTION = re.compile(r"^## (\w+)\.py\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Verdict(NamedTuple):
    """`unlisted`: survivors that stand on no list; `gone`: listed ones that are killed now, or are no more."""

    killed: int
    total: int
    unlisted: tuple[Survivor, ...]
    gone: tuple[Survivor, ...]

    @property
    def is_good(self) -> bool:
        return self.killed * 100 >= WANTED_PCT * self.total > 0 and not self.unlisted


def listed(page: str) -> Counter[Survivor]:
    """The survivors of a page. Raises `ValueError` where a reason is missing."""
    return Counter(one for module, section in _SECTION.findall(page) for one in _of_section(module, section))


def _of_section(module: str, section: str) -> list[Survivor]:
    """Text and block in turns."""
    parts = _BLOCK.split(section)
    reasons, blocks = parts[::2], parts[1::2]
    for reason, block in zip(reasons, blocks, strict=False):
        if not reason.strip():
            raise ValueError(f"{module}: a survivor without a reason: {block.splitlines()[0]}")
    return [one for block in blocks for one in _of_block(module, block)]


def _of_block(module: str, block: str) -> list[Survivor]:
    found: list[Survivor] = []
    for line in block.splitlines():
        if line[:2] in ("- ", "+ "):
            found[-1] = (*found[-1][:2], (*found[-1][2], line.strip()))
        else:
            found.append((module, line.strip(), ()))
    return found


def judge(mutants: Iterable[Mutant], may_live: Counter[Survivor]) -> Verdict:
    """`may_live`: of the modules that were run."""
    each = list(mutants)
    alive = Counter((one.module, one.function, one.change) for one in each if not one.is_killed)
    return Verdict(
        killed=sum(one.is_killed for one in each),
        total=len(each),
        unlisted=tuple((alive - may_live).elements()),
        gone=tuple((may_live - alive).elements()),
    )


def told(survivors: Iterable[Survivor]) -> str:
    """As the page has them, to be put there under a reason."""
    lines = []
    for module, those in groupby(sorted(survivors), key=lambda one: one[0]):
        lines += [f"## {module}.py", "", "```diff"]
        for _, function, change in those:
            lines += [function, *change]
        lines += ["```", ""]
    return "\n".join(lines)


def page(path: Path = PAGE) -> Counter[Survivor]:
    return listed(path.read_text(encoding="utf-8"))
