"""What does not fit, in words for whoever sent it or set it: what is wrong and what is allowed, never a value.

pydantic tells by kinds of fault and in the words of its own parts; each kind has our words here. A kind that is not in
the table is told in general: a new pydantic must not speak to callers.
"""

from collections.abc import Mapping
from typing import Any

_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is no field that is known here",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "enum": "must be one of {expected}",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be an array",
    "literal_error": "must be one of {expected}",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "path_not_directory": "is no folder",
    "path_not_file": "is no file",
    "string_too_long": "is too long: {max_length} characters at the most",
    "string_too_short": "is too short: {min_length} or more characters",
    "string_type": "must be a text",
    "string_unicode": "holds half of a surrogate pair: it must be whole Unicode characters",
    "too_long": "has too many elements: {max_length} at the most",
    "too_short": "has too few elements: {min_length} or more",
    "uuid_parsing": "must be a UUID like e59ca73e-d80d-5236-a163-2bc15288643e",
    "uuid_type": "must be a UUID like e59ca73e-d80d-5236-a163-2bc15288643e",
}


def words_of(fault: Mapping[str, Any]) -> str:
    """One of `ValidationError.errors()` in our words; those of our own validators as they are."""
    limits = fault.get("ctx", {})
    if fault["type"] == "value_error":
        return str(limits["error"])
    return _WORDS.get(fault["type"], "does not fit").format_map(limits)
