"""Statements built with SQLAlchemy Core, carried out over the tables in memory: what the call queue and the registry
ask for, and no more. A shape that is not here raises `NotTaught` with its SQL.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import Column, Delete, Insert, Select, Table, Update
from sqlalchemy.dialects.postgresql.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    ClauseList,
    ColumnClause,
    Grouping,
    Label,
    Null,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement

from tests.simulation.database import Key, Row, Transaction
from tests.simulation.results import NamedRow, Result, row_type

Values = Mapping[str, Any]


class NotTaught(Exception):
    """The simulation does not know this shape of statement."""


def run_core(transaction: Transaction, statement: Any, parameters: Any) -> Result:
    """Carries out one statement; a list of parameters means once for each."""
    if isinstance(parameters, list):
        touched = sum(run_core(transaction, statement, one).rowcount for one in parameters)
        return Result(touched=touched)
    values = dict(parameters or ())
    for kind, run in _KINDS.items():
        if isinstance(statement, kind):
            return run(transaction, statement, values)
    raise NotTaught(str(statement))


# --- expressions ---


def _evaluate(expression: Any, row: Row, values: Values, transaction: Transaction) -> Any:  # noqa: PLR0911
    match expression:
        case BindParameter():
            return values.get(expression.key, expression.effective_value)
        case ColumnClause():
            return row[expression.name]
        case BinaryExpression():
            left = _evaluate(expression.left, row, values, transaction)
            return _compared(expression, left, _evaluate(expression.right, row, values, transaction))
        case BooleanClauseList():
            parts = [bool(_evaluate(one, row, values, transaction)) for one in expression.clauses]
            return all(parts) if expression.operator is operators.and_ else any(parts)
        case ClauseList():
            return tuple(_evaluate(one, row, values, transaction) for one in expression.clauses)
        case Grouping() | Label():
            return _evaluate(expression.element, row, values, transaction)
        case UnaryExpression():
            return _evaluate(expression.element, row, values, transaction)
        case Null():
            return None
        case FunctionElement():
            return _call(expression, row, values, transaction)
        case _:
            raise NotTaught(f"{type(expression).__name__}: {expression}")


_PLAIN: dict[Any, Callable[[Any, Any], Any]] = {
    operators.eq: operator.eq,
    operators.ne: operator.ne,
    operators.lt: operator.lt,
    operators.le: operator.le,
    operators.gt: operator.gt,
    operators.ge: operator.ge,
    operators.add: operator.add,
    operators.in_op: lambda left, right: left in right,
    operators.not_in_op: lambda left, right: left not in right,
}


def _compared(expression: BinaryExpression[Any], left: Any, right: Any) -> Any:
    kind = expression.operator
    if kind is operators.is_:
        return left is right
    if kind is operators.is_not:
        return left is not right
    if left is None or right is None:
        return None
    if kind not in _PLAIN:
        raise NotTaught(str(expression))
    return _PLAIN[kind](left, right)


def _call(expression: FunctionElement[Any], row: Row, values: Values, transaction: Transaction) -> Any:
    arguments = [_evaluate(one, row, values, transaction) for one in expression.clauses]
    match expression.name:
        case "clock_timestamp" | "now":
            return transaction.now()
        case "make_interval":
            return timedelta(seconds=float(arguments[-1]))
        case "hashtextextended":
            return arguments[0]
        case "pg_advisory_xact_lock":
            transaction.lock("advisory", (arguments[0],))
            return None
        case name:
            raise NotTaught(name)


# --- statements ---


def _matching(transaction: Transaction, table: str, where: Any, values: Values) -> list[tuple[Key, Row]]:
    if where is None:
        return list(transaction.rows(table))
    return [(key, row) for key, row in transaction.rows(table) if _evaluate(where, row, values, transaction)]


def _select(transaction: Transaction, statement: Select[Any], values: Values) -> Result:
    columns = _columns_of(statement)
    table = _table_of(columns, statement.whereclause)
    if table is None:
        return Result(_shown(columns, [{}], values, transaction))
    found = _matching(transaction, table, statement.whereclause, values)
    if statement._group_by_clauses:
        return Result(_grouped(columns, statement, [row for _, row in found]))
    if any(_counts(column) for column in columns):
        return Result([(len(found),)])
    for clause in reversed(statement._order_by_clauses):
        found.sort(key=functools.partial(_place, clause, values, transaction))
    found = _locked(transaction, table, statement, found)
    return Result(_shown(columns, [row for _, row in found], values, transaction))


def _columns_of(statement: Select[Any]) -> list[Any]:
    """As `selected_columns`, which makes copies; a table stands for all of its columns."""
    selected = ((one,) if not isinstance(one, Table) else _all_of(one) for one in statement._raw_columns)
    return [column for columns in selected for column in columns]


@functools.cache
def _all_of(table: Table) -> Sequence[Any]:
    return tuple(table.columns)


def _table_of(columns: Sequence[Any], where: Any) -> str | None:
    """The one table that it reads; `select(func.count())` names it in its conditions only."""
    names = {str(column.table.name) for column in columns if isinstance(column, Column)}
    if names:
        (name,) = names
        return name
    if where is None:
        return None
    return next(str(one.table.name) for one in visitors.iterate(where) if isinstance(one, Column))


def _shown(columns: Sequence[Any], rows: Sequence[Row], values: Values, transaction: Transaction) -> list[NamedRow]:
    names = tuple(getattr(column, "name", "?") for column in columns)
    make = row_type(names)
    if all(isinstance(column, Column) for column in columns):
        return [make(map(row.__getitem__, names)) for row in rows]
    return [make(_evaluate(column, row, values, transaction) for column in columns) for row in rows]


def _locked(
    transaction: Transaction, table: str, statement: Select[Any], found: list[tuple[Key, Row]]
) -> list[tuple[Key, Row]]:
    limit = None if statement._limit_clause is None else statement._limit_clause.effective_value
    if statement._for_update_arg is None:
        return found[:limit]
    skip = statement._for_update_arg.skip_locked
    held: list[tuple[Key, Row]] = []
    for one in found:
        if limit is not None and len(held) >= limit:
            break
        if transaction.lock(table, one[0], skip=skip):
            held.append(one)
    return held


def _place(clause: Any, values: Values, transaction: Transaction, found: tuple[Key, Row]) -> tuple[bool, Any]:
    """Where it stands in the order of a column; NULL comes last."""
    value = _evaluate(clause, found[1], values, transaction)
    return (value is None, value)


def _counts(column: Any) -> bool:
    return isinstance(column, FunctionElement) and column.name == "count"


def _grouped(columns: Sequence[Any], statement: Select[Any], found: list[Row]) -> list[tuple[Any, ...]]:
    (by,) = statement._group_by_clauses
    groups: dict[Any, int] = {}
    for row in found:
        groups[row[by.name]] = groups.get(row[by.name], 0) + 1
    return [tuple(count if _counts(column) else name for column in columns) for name, count in groups.items()]


def _insert(transaction: Transaction, statement: Insert, values: Values) -> Result:
    table = _name(statement.table)
    given = _given_rows(statement, values)
    conflict = statement._post_values_clause
    written = []
    for one in given:
        row = transaction.numbered(table, _blank(statement.table) | one)
        key = transaction.database.tables[table].key_of(row)
        transaction.lock(table, key)
        before = transaction.get(table, key)
        if before is None:
            written.append(transaction.put(table, row))
        elif isinstance(conflict, OnConflictDoUpdate):
            changed = {_name(column): row[_name(column)] for column in dict(conflict.update_values_to_set)}
            written.append(transaction.put(table, before | changed))
        elif not isinstance(conflict, OnConflictDoNothing):
            raise NotTaught(f"a key of {table} twice")
    return Result(_returned(statement, written), touched=len(written))


@functools.cache
def _blank(table: Any) -> Row:
    """A row of which nothing was said."""
    return {column.name: None for column in table.columns if column.identity is None}


def _given_rows(statement: Insert, values: Values) -> list[Row]:
    if statement._multi_values:
        return [
            {_name(column): _plain(value) for column, value in row.items()}
            for rows in statement._multi_values
            for row in cast(list[dict[Any, Any]], rows)
        ]
    own = {_name(column): _plain(value) for column, value in (statement._values or {}).items()}
    return [own | dict(values)]


def _name(column: Any) -> str:
    return str(getattr(column, "name", column))


def _plain(value: Any) -> Any:
    return value.effective_value if isinstance(value, BindParameter) else value


def _returned(statement: Any, rows: Sequence[Row]) -> list[Any]:
    columns = [column for one in statement._returning for column in (one.columns if hasattr(one, "columns") else [one])]
    make = row_type(tuple(column.name for column in columns))
    return [make(row[column.name] for column in columns) for row in rows] if columns else []


def _update(transaction: Transaction, statement: Update, values: Values) -> Result:
    table = _name(statement.table)
    found = _matching(transaction, table, statement.whereclause, values)
    for key, _ in found:
        transaction.lock(table, key)
    written = []
    for _, row in found:
        changed = {
            _name(column): _evaluate(value, row, values, transaction) if hasattr(value, "compile") else value
            for column, value in (statement._values or {}).items()
        }
        written.append(transaction.put(table, row | changed))
    return Result(_returned(statement, written), touched=len(written))


def _delete(transaction: Transaction, statement: Delete, values: Values) -> Result:
    table = _name(statement.table)
    found = _matching(transaction, table, statement.whereclause, values)
    for key, _ in found:
        transaction.delete(table, key)
    return Result(touched=len(found))


_KINDS: dict[type, Callable[[Transaction, Any, Values], Result]] = {
    Select: _select,
    Insert: _insert,
    Update: _update,
    Delete: _delete,
}
