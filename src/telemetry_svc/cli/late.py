"""Commands that are imported when they are asked for: importing all of them takes 2 s of CPU, and `--help` needs none.

What stands in a list of commands is said twice, there and at the command; a test compares the two.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

APPEARANCE: Mapping[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None}
"""How every `Typer` of ours is made."""


class Late(NamedTuple):
    """A command's line in the list, and who adds it to a `Typer`, perhaps with others: there its module is imported."""

    help: str
    add_to: Callable[[typer.Typer], object]


def late_group(table: Mapping[str, Late]) -> type[TyperGroup]:
    """A group of these commands, in this order; for `typer.Typer(cls=…)`."""

    class LateGroup(TyperGroup):
        def __init__(self, **attrs: Any) -> None:
            super().__init__(**attrs)
            self.commands: Any = _Commands(table)

        def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as it is called
            with formatter.section("Commands"):
                formatter.write_dl([(name, late.help) for name, late in table.items()])

    return LateGroup


class _Commands(Mapping[str, Any]):
    def __init__(self, table: Mapping[str, Late]) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Any:
        app = typer.Typer(**APPEARANCE)
        app.callback()(_nothing)  # a `Typer` of one command would be no group
        self._table[name].add_to(app)
        group: Any = get_command(app)
        return group.commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def _nothing() -> None:
    return None
