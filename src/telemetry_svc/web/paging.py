"""How every list is asked for and continued: `limit` and an opaque `cursor` (contract.md: `{items, next_cursor}`)."""

from typing import Annotated

from fastapi import Query

from telemetry_svc.store.cursor import START, BadCursorError, Cursor
from telemetry_svc.web.problems import field_problem

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="how many items at the most")]
CursorText = Annotated[
    str | None, Query(max_length=64, description="`next_cursor` of the page before; absent: from the beginning")
]


def cursor_from(text: str | None, field: str = "cursor") -> Cursor:
    """The place that a caller names; the beginning where he names none. Raises `Problem` 422."""
    if text is None:
        return START
    try:
        return Cursor.parse(text)
    except BadCursorError as error:
        raise field_problem(field, str(error)) from None


def next_cursor(last: Cursor | None, count: int, limit: int) -> str | None:
    """The cursor for the next page; None where this one was not full: there is nothing more for now."""
    return last.text if last is not None and count == limit else None
