"""What an error of PostgreSQL means for a batch: who is at fault decides whether to wait, to split or to give up.

Two drivers' worth of exceptions (SQLAlchemy wraps asyncpg's, COPY raises them bare) become one of four names.
"""

from enum import Enum, auto

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from telemetry_svc.store.engine import DRIVER_ERRORS

_MISSING_PARTITION = "23514"
_LOCK_TIMEOUT = "55P03"
_OF_THE_STATEMENT = frozenset({"0A", "21", "22", "23", "42", "54"})
_NOT_MIGRATED = frozenset({"42501", "42703", "42704", "42883", "42P01"})
"""No right, or no such column, object, function, table: what a schema that is behind looks like. Waiting mends it."""


class Refusal(Enum):
    """DATA: a value PostgreSQL does not take, or a statement of ours that fails at these records and would for ever
    (21000: one row twice), so a smaller batch finds it (decision 9). MISSING_PARTITION: make it and try again (decision
    8). LOCKED: somebody holds the row. UNAVAILABLE: everything else; wait and try again."""

    DATA = auto()
    MISSING_PARTITION = auto()
    LOCKED = auto()
    UNAVAILABLE = auto()


DATABASE_ERRORS: tuple[type[Exception], ...] = (
    DBAPIError,
    PoolTimeoutError,
    *DRIVER_ERRORS,
    OverflowError,
    UnicodeEncodeError,
    OSError,
    TimeoutError,
)
"""All that a statement of ours may raise for reasons outside our code."""


def refusal_of(error: BaseException) -> Refusal:
    """The meaning of one of `DATABASE_ERRORS`."""
    cause = _root(error)
    if isinstance(cause, OverflowError | UnicodeEncodeError):
        return Refusal.DATA
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate == _MISSING_PARTITION and not getattr(cause, "constraint_name", None):
        return Refusal.MISSING_PARTITION
    if sqlstate == _LOCK_TIMEOUT:
        return Refusal.LOCKED
    if isinstance(sqlstate, str) and sqlstate[:2] in _OF_THE_STATEMENT and sqlstate not in _NOT_MIGRATED:
        return Refusal.DATA
    return Refusal.UNAVAILABLE


def reason_of(error: BaseException) -> str:
    """What a dead letter says of a refused value: its kind, never the value."""
    return f"{type(error).__name__}: PostgreSQL refuses a value"


def _root(error: BaseException) -> BaseException:
    """PostgreSQL's own error, below what SQLAlchemy wraps around it: only that one names a constraint."""
    while not isinstance(error, asyncpg.PostgresError) and error.__cause__ is not None:
        error = error.__cause__
    return error
