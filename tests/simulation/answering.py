"""What every set of taught statements is made of (`statements.py` puts them together)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from tests.simulation.database import Row, Transaction
from tests.simulation.results import Result

Values = Mapping[str, Any]


class Answer(Struct, frozen=True):
    """`point`: the name of the step, for faults that strike there."""

    point: str
    run: Callable[[Transaction, Values], Result]


def nothing(_: Transaction, __: Values) -> Result:
    """For statements whose effect no life lasts long enough to see."""
    return Result()


def unnested(values: Values, names: Mapping[str, str]) -> list[Row]:
    """Arrays side by side as rows; `names`: parameter to column."""
    columns = list(names.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*(values[name] for name in names), strict=True)]


def insert_new(transaction: Transaction, table: str, rows: Sequence[Row]) -> list[Row]:
    """INSERT … ON CONFLICT DO NOTHING RETURNING *: waits for whoever is writing the same key."""
    place = transaction.database.tables[table]
    for row in rows:
        transaction.lock(table, place.key_of(row))
    return [transaction.put(table, row) for row in rows if transaction.get(table, place.key_of(row)) is None]
