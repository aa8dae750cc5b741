"""What a Markdown file tells the reader to use: commands, make targets, settings, and files it links to."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_CODE = re.compile(r"^```([a-z]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_RUN = r"^(?:\$ )?(?:export )?(?:[A-Z_]+=\S+ )*"
"""A line that somebody types: perhaps a prompt, perhaps settings, then the program."""
_COMMAND = re.compile(_RUN + r"(?:\S*/)?telemetry-svc ((?:[a-z]|--)[^|;&#]*)")
_MAKE = re.compile(_RUN + r"make ((?:[a-z][a-z-]*(?: |$))+)")
_SETTING = re.compile(r"\bTELEMETRY_[A-Z][A-Z_]*[A-Z]\b")


def code_of(text: str) -> Iterator[str]:
    """What somebody may type: lines of `sh` blocks, lines after a `$` in others (continued ones joined), code spans."""
    for language, block in _CODE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if language == "sh" or line.startswith("$ "):
                yield line
    yield from _SPAN.findall(_CODE.sub("", text))


def commands(text: str) -> set[str]:
    """What follows `telemetry-svc` wherever it stands in code with a sub-command or an option."""
    return {" ".join(found.split()) for line in code_of(text) for found in _COMMAND.findall(line.strip())}


def words(command: str) -> tuple[list[str], list[str]]:
    """A command line cut into its plain words, up to the first that is none, and its options."""
    parts = shlex.split(command, posix=True)
    plain: list[str] = []
    for part in parts:
        if not re.fullmatch(r"[a-z][a-z-]*", part):
            break
        plain.append(part)
    return plain, [part.partition("=")[0] for part in parts if part.startswith("--")]


def make_targets(text: str) -> set[str]:
    """Targets that code says to make."""
    return {target for line in code_of(text) for found in _MAKE.findall(line.strip()) for target in found.split()}


def settings(text: str) -> set[str]:
    """Every `TELEMETRY_…` that the text names, in code or not."""
    return set(_SETTING.findall(text))


def links(text: str) -> set[str]:
    """Targets of links to files of this project or to headings."""
    return {link for link in _LINK.findall(_CODE.sub("", text)) if "://" not in link}


def anchors(path: Path) -> set[str]:
    """The headings of a file as links name them."""
    headings = _HEADING.findall(_CODE.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
