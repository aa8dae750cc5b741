"""Pings from a CSV file: one row is one Ping v1, the columns its field names without the nesting.

Every row is judged by the same decoder as a record of the topic, so a bad row is named with its line and reason and the
good ones go out.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from telemetry_svc.api.machines_csv import records
from telemetry_svc.codec.ping import decode
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.telemetry import MachineId, Position, Sensors

_TEXT_FIELDS = ("machine_id", "recorded_at", "device_id")
_PLAIN_FIELDS = (*_TEXT_FIELDS, "hour_meter_h", "engine_running", "sequence", "faults")
_NESTED = dict.fromkeys(Position.__struct_fields__, "position") | dict.fromkeys(Sensors.__struct_fields__, "sensors")
_KNOWN = frozenset((*_PLAIN_FIELDS, *_NESTED))
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


class BadPingsFile(ValueError):
    """The file as a whole is no good; one line says why."""


class GoodRow(Struct, frozen=True):
    """A row as the record to be sent."""

    machine_id: MachineId
    value: bytes


class BadRow(Struct, frozen=True):
    """A row that was left out."""

    line: int
    reason: str


class PingsFile(Struct, frozen=True):
    """A file's rows in order, and the columns that are no field of Ping v1."""

    unknown_columns: tuple[str, ...]
    rows: tuple[GoodRow | BadRow, ...]


def read_pings(path: Path) -> PingsFile:
    """Reads a UTF-8 CSV file with a header. Raises `BadPingsFile`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadPingsFile(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadPingsFile(f"{path}: not UTF-8 at byte {error.start}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = _header(path, reader)
    unknown = tuple(name for name in columns if name not in _KNOWN)
    return PingsFile(unknown, tuple(_row(line, columns, cells) for line, cells in records(reader)))


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise BadPingsFile(f"{path}:1: {error}") from error
    for required in ("machine_id", "recorded_at"):
        if required not in columns:
            raise BadPingsFile(f"{path}:1: no column {required} in the header")
    twice = sorted({name for name in columns if columns.count(name) > 1 and name in _KNOWN})
    if twice:
        raise BadPingsFile(f"{path}:1: the header names {', '.join(twice)} twice")
    return columns


def _row(line: int, columns: Sequence[str], cells: Sequence[str] | None) -> GoodRow | BadRow:
    if cells is None:
        return BadRow(line, "cannot be read as CSV: a quote is not closed or stands in the wrong place")
    if len(cells) != len(columns):
        return BadRow(line, f"has {len(cells)} cells, the header has {len(columns)}")
    value = _ping_json({name: cell.strip() for name, cell in zip(columns, cells, strict=True)})
    ping = decode(value)
    return BadRow(line, ping.message) if isinstance(ping, Rejected) else GoodRow(ping.machine_id, value)


def _ping_json(cells: dict[str, str]) -> bytes:
    ping: dict[str, object] = {}
    for name, cell in cells.items():
        if not cell:
            continue
        if name in _PLAIN_FIELDS:
            ping[name] = cell if name in _TEXT_FIELDS else _value(cell)
        elif name in _NESTED:
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
