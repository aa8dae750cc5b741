"""Rows and results as SQLAlchemy gives them: by place, by name, one or many."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class NamedRow(tuple[Any, ...]):
    """A row whose columns are attributes too."""

    __slots__ = ()
    places: Mapping[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self[self.places[name]]
        except KeyError:
            raise AttributeError(name) from None


@functools.cache
def row_type(names: tuple[str, ...]) -> type[NamedRow]:
    """The type of rows with these columns."""
    places = {name: place for place, name in enumerate(names)}
    return type("Row", (NamedRow,), {"places": places, "__slots__": ()})


class Result:
    """What a statement gave: rows, and how many it touched."""

    def __init__(self, rows: Sequence[Sequence[Any]] = (), *, touched: int | None = None) -> None:
        self._rows = rows
        self.rowcount = len(rows) if touched is None else touched

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        return list(self._rows)

    def first(self) -> Any:
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        (row,) = self._rows
        return row

    def one_or_none(self) -> Any:
        return self.one() if self._rows else None

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]
