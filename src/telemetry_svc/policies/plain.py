"""An edition as plain values a person can read: what `policy diff` compares and `policy show --internal` prints.

Hours instead of hundredths, `72 h` instead of seconds, rows by their name instead of by their place, sets in order;
names of the files and what is worked out of other values are left out.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from math import isinf

from msgspec import Struct, structs

from telemetry_svc.policies.values import UNIT_S
from telemetry_svc.rules.fault_codes import SeverityOverride
from telemetry_svc.rules.policy import Policy
from telemetry_svc.rules.sensors import SensorBlock
from telemetry_svc.rules.service_terms import CallWindow, OutcomeRule

Plain = str | int | float | bool | None | Sequence["Plain"] | Mapping[str, "Plain"]

_OF_THE_FILE = ("edition", "digest", "title_en", "title_zh", "clauses")
_HOURS_UP_TO = timedelta(hours=72)
_NAMES = ("field", "name", "spn", "fmi")
_WORKED_OUT = ("bands_running", "bands_stopped", "spn_names", "fmi_names")


def plain(policy: Policy) -> dict[str, Plain]:
    """Everything that an edition decides, block by block, without its sentences."""
    return {name: _plain(value) for name, value in structs.asdict(policy).items() if name not in _OF_THE_FILE}


def _plain(value: object) -> Plain:
    if isinstance(value, Struct):
        return _fields(value)
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | frozenset):
        return _rows(tuple(value) if isinstance(value, tuple) else sorted(value))
    return _scalar(value)


def _rows(values: Sequence[object]) -> Plain:
    """By name, where each row has one."""
    names = [_name_of(one) for one in values]
    if values and None not in names:
        return {str(name): _unnamed(one) for name, one in zip(names, values, strict=True)}
    return [_plain(one) for one in values]


def _unnamed(row: object) -> Plain:
    fields = _plain(row)
    assert isinstance(fields, Mapping)  # noqa: S101 - only structs have names
    return {key: value for key, value in fields.items() if key not in _NAMES}


def _scalar(value: object) -> Plain:
    if isinstance(value, float) and isinf(value):
        return None
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, Enum | date):
        return str(value)
    assert value is None or isinstance(value, str | int | float)  # noqa: S101 - all that a policy is made of
    return value


def _fields(value: Struct) -> Plain:
    if isinstance(value, CallWindow):
        return f"{value.from_}-{value.to}"
    fields = structs.asdict(value)
    return {_with_unit(name): _in_unit(name, fields[name]) for name in fields if name not in _WORKED_OUT}


def _name_of(row: object) -> str | None:
    """What tells one row of a list from the others, where a name does."""
    match row:
        case SensorBlock():
            return row.field
        case OutcomeRule():
            return row.name
        case SeverityOverride():
            return f"{row.spn}/{'*' if row.fmi is None else row.fmi}"
        case _:
            return None


def _with_unit(name: str) -> str:
    """Hours are kept in hundredths; a person reads hours."""
    return f"{name.removesuffix('_ch')}_h" if name.endswith("_ch") else name


def _in_unit(name: str, value: object) -> Plain:
    return value / 100 if name.endswith("_ch") and isinstance(value, int) else _plain(value)


def _duration(value: timedelta) -> str:
    """As a file writes it, in the largest unit that leaves a whole number; up to 72 h in hours."""
    for unit, at_least in (("d", _HOURS_UP_TO), ("h", None), ("min", None)):
        number = value / timedelta(seconds=UNIT_S[unit])
        if number and number == int(number) and (at_least is None or value > at_least):
            return f"{int(number)} {unit}"
    return f"{value.total_seconds():g} s"


def text_of(value: Plain) -> str:
    """A value in a line."""
    match value:
        case None:
            return "none"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(map(text_of, value)) or "nothing"
        case Mapping():
            return ", ".join(f"{key} {text_of(one)}" for key, one in value.items())
        case _:
            return str(value)
