"""Reads the Dockerfile as far as its tests need: stages, and the instructions of each in order."""

from msgspec import Struct

from tests.packaging.project import ROOT


class Instruction(Struct, frozen=True):
    """One instruction, its continuation lines joined."""

    keyword: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage; a stage begins with its FROM."""
    found: list[list[Instruction]] = []
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            found.append([])
        found[-1].append(Instruction(keyword, rest.strip()))
    return found


def of(stage: list[Instruction], keyword: str) -> list[str]:
    """What follows each `keyword` of a stage."""
    return [one.rest for one in stage if one.keyword == keyword]


def environment(stage: list[Instruction]) -> dict[str, str]:
    """Every ENV of a stage."""
    return dict(pair.split("=", 1) for rest in of(stage, "ENV") for pair in rest.split())
