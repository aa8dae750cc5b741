"""From a request's body to the bytes of each ping, cut and not copied through a parser.

What goes to the topic is what the device sent, byte for byte: the decoder of ingest has the last word on it.
"""

import json
import re
from itertools import pairwise
from typing import Any, NoReturn

from telemetry_svc.codec.strict_json import MAX_DEPTH, depth_of

_BLANK = b" \t\n\r"
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


class NotJsonError(ValueError):
    """Not RFC 8259 JSON in UTF-8."""


class NotAnArrayError(ValueError):
    """JSON, but no array."""


def split_lines(body: bytes) -> list[bytes]:
    """The pings of an NDJSON body; blank lines are none. What a line holds is not looked at."""
    return [line for line in (line.strip(_BLANK) for line in body.split(b"\n")) if line]


def split_array(body: bytes) -> list[bytes]:
    """The elements of a JSON array. That each of them is JSON is for the caller to find out.

    Raises `NotJsonError`, `NotAnArrayError`.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        raise NotJsonError from None
    array = body.strip(_BLANK)
    if not array.startswith(b"["):
        document(array)
        raise NotAnArrayError
    return _elements(array)


def _elements(array: bytes) -> list[bytes]:
    cuts = [0, *_commas(array), len(array) - 1]
    elements = [array[start + 1 : end].strip(_BLANK) for start, end in pairwise(cuts)]
    if elements == [b""]:
        return []
    if not all(elements):
        raise NotJsonError
    return elements


def _commas(array: bytes) -> list[int]:
    """Where the commas of the outermost array are. Linear, no recursion."""
    depth = 0
    commas = []
    for token in _TOKENS.finditer(array):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
                if depth == 0 and (token[0] != b"]" or token.end() != len(array)):
                    raise NotJsonError
            case b"," if depth == 1:
                commas.append(token.start())
    if depth:
        raise NotJsonError
    return commas


def document(raw: bytes) -> Any:
    """What RFC 8259 makes of some bytes, numbers as text; None where it is nested too deep to be looked into.

    Raises `NotJsonError`.
    """
    try:
        text = raw.decode()
        if depth_of(text) > MAX_DEPTH:
            return None
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise NotJsonError from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
