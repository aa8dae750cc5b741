"""Field types that every body shares: strict, bounded, and documented by an example.

They keep out what would hurt further in: control characters (a NUL ends a PostgreSQL batch, an escape a terminal),
times without a zone, and ids that could not be the key of a record.
"""

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LINE_BREAKS = "\n\t"


class StrictBody(BaseModel):
    """Base of every body: no coercion, no unknown field, and no input in an error's text."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _instant(value: Any) -> Any:
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise ValueError("must be an RFC 3339 time with an offset, like 2026-11-22T04:20:31Z")
    try:
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a day of the calendar") from None
    if not 2000 <= moment.year <= 2099:
        raise ValueError("must lie in the years 2000-2099")
    return moment


def _day(value: Any) -> Any:
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        raise ValueError("must be a date like 2026-11-22")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a day of the calendar") from None


def _line(value: str) -> str:
    if any(unicodedata.category(char) == "Cc" for char in value):
        raise ValueError("holds a control character")
    return value


def _paragraphs(value: str) -> str:
    if any(unicodedata.category(char) == "Cc" and char not in _LINE_BREAKS for char in value):
        raise ValueError("holds a control character")
    return value


def shaped(pattern: str, words: str, example: str) -> tuple[AfterValidator, WithJsonSchema]:
    """For `Annotated[str, *shaped(…)]`: a text that matches the whole pattern; `words` say what is allowed."""
    shape = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if shape.fullmatch(value) is None:
            raise ValueError(words)
        return value

    schema = {"type": "string", "pattern": f"^{pattern}$", "examples": [example]}
    return AfterValidator(check), WithJsonSchema(schema)


Name = Annotated[str, *shaped(r"[A-Za-z0-9._-]{1,64}", "must be 1-64 of A-Z a-z 0-9 . _ -", "ZE215-000017")]
"""An id of ours: 1-64 of A-Z a-z 0-9 . _ -"""

Reference = Annotated[str, Field(min_length=1, max_length=128, examples=["EXP-007"]), AfterValidator(_line)]
"""Somebody else's id: free text of one line."""

Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]
"""A short text of one line."""

Note = Annotated[str, Field(max_length=2_000), AfterValidator(_paragraphs)]
"""A text that may have lines."""

Phone = Annotated[
    str, *shaped(r"\+[1-9][0-9]{6,14}", "must be an E.164 number: + and 7 to 15 digits", "+8613800000000")
]
"""E.164."""

Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T04:20:31Z"]}),
]
"""RFC 3339 with an offset, years 2000-2099; UTC in Python."""

Day = Annotated[
    date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-01-31"]})
]
"""A calendar day."""

Hours = Annotated[float, Field(ge=0, le=200_000, examples=[251.3])]
"""An hour meter, in h."""
