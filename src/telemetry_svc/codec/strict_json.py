"""The strict second look at JSON, taken only at what the fast parser refused.

No parser gives the contract's classes by itself (design.md, Parts): this one tells *malformed* (not RFC 8259, not
UTF-8, nested over 64 deep) from *invalid* (RFC 8259 allows it, we do not take it: 1e999, a lone surrogate escape), and
gives the document back with the last of duplicate keys and every number as the text it was.
"""

import json
import math
import re
from typing import Any, NoReturn

import msgspec

MAX_DEPTH = 64
_BRACKETS_AND_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


class MalformedJsonError(ValueError):
    """Not RFC 8259 JSON, or nested too deep. The text says what and names no value."""


class UntakenJsonError(ValueError):
    """RFC 8259 JSON that we do not take: a number beyond a double, a lone surrogate."""


class _Numbers:
    """Keeps the text of each number and remembers whether one was beyond a double."""

    def __init__(self) -> None:
        self.overflow = False

    def keep(self, text: str) -> msgspec.Raw:
        self.overflow = self.overflow or math.isinf(float(text))
        return msgspec.Raw(text.encode())


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise MalformedJsonError(message)


def depth_of(text: str) -> int:
    """The deepest nesting of arrays and objects; the outermost one is level 1. Linear, no recursion."""
    depth = deepest = 0
    for match in _BRACKETS_AND_STRINGS.finditer(text):
        char = match[0][0]
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def parse(raw: bytes) -> Any:
    """The document as Python values, every number as a `msgspec.Raw` of its text.

    Raises `MalformedJsonError` or `UntakenJsonError`.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8"
        raise MalformedJsonError(message) from None
    if depth_of(text) > MAX_DEPTH:
        message = f"nested over {MAX_DEPTH} deep"
        raise MalformedJsonError(message)
    numbers = _Numbers()
    try:
        value = json.loads(text, parse_float=numbers.keep, parse_int=numbers.keep, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        message = f"{error.msg} at character {error.pos}"
        raise MalformedJsonError(message) from None
    except RecursionError:
        message = f"nested over {MAX_DEPTH} deep"
        raise MalformedJsonError(message) from None
    _refuse_untaken(value, overflow=numbers.overflow)
    return value


def _refuse_untaken(value: Any, *, overflow: bool) -> None:
    if overflow:
        message = "a number is beyond the range of a double"
        raise UntakenJsonError(message)
    try:
        msgspec.json.encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        message = "a string holds half of a surrogate pair"
        raise UntakenJsonError(message) from None
