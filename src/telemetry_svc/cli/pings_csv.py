"""Pings from a CSV file: one row is one Ping v1, the columns its field names without the nesting.

Every row is judged by the same decoder as a record of the topic, so a bad row is named with its line and reason and the
good ones go out.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from telemetry_svc.api.csv_file import BadRow, Row, read_csv
from telemetry_svc.codec.ping import decode
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.telemetry import MachineId, Position, Sensors

_TEXT_FIELDS = ("machine_id", "recorded_at", "device_id")
_PLAIN_FIELDS = (*_TEXT_FIELDS, "hour_meter_h", "engine_running", "sequence", "faults")
_NESTED = dict.fromkeys(Position.__struct_fields__, "position") | dict.fromkeys(Sensors.__struct_fields__, "sensors")
_KNOWN = frozenset((*_PLAIN_FIELDS, *_NESTED))
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


class GoodRow(Struct, frozen=True):
    """A row as the record to be sent."""

    machine_id: MachineId
    value: bytes


class PingsFile(Struct, frozen=True):
    """A file's rows in order, and the columns that are no field of Ping v1."""

    unknown_columns: tuple[str, ...]
    rows: tuple[GoodRow | BadRow, ...]


def read_pings(path: Path) -> PingsFile:
    """Reads a CSV file of pings. Raises `BadFileError`."""
    file = read_csv(path, _KNOWN, ["machine_id", "recorded_at"])
    return PingsFile(file.unknown_columns, tuple(map(_checked, file.rows)))


def _checked(row: Row | BadRow) -> GoodRow | BadRow:
    if isinstance(row, BadRow):
        return row
    value = _ping_json(row.cells)
    ping = decode(value)
    return BadRow(row.line, ping.message) if isinstance(ping, Rejected) else GoodRow(ping.machine_id, value)


def _ping_json(cells: Mapping[str, str]) -> bytes:
    ping: dict[str, object] = {}
    for name, cell in cells.items():
        if name in _PLAIN_FIELDS:
            ping[name] = cell if name in _TEXT_FIELDS else _value(cell)
        else:
            nested = ping.setdefault(_NESTED[name], {})
            assert isinstance(nested, dict)  # noqa: S101 - only we put it there
            nested[name] = _value(cell)
    return msgspec.json.encode(ping)


def _value(cell: str) -> Raw | str:
    """Numbers, booleans and JSON lists to the letter; anything else as text, for the decoder to refuse."""
    if cell.lower() in {"true", "false"}:
        return Raw(cell.lower().encode())
    if _NUMBER.fullmatch(cell) or cell.startswith("["):
        return Raw(cell.encode())
    return cell
