"""Pings from a CSV file: one row is one Ping v1, the columns its field names without the nesting.

Every row is judged by the same decoder as a record of the topic, so a bad row is named with its line and reason and the
good ones go out.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from telemetry_svc.codec.ping import decode
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.telemetry import MachineId, Position, Sensors

_TEXT_FIELDS = ("machine_id", "recorded_at", "device_id")
_PLAIN_FIELDS = (*_TEXT_FIELDS, "hour_meter_h", "engine_running", "sequence", "faults")
_NESTED = dict.fromkeys(Position.__struct_fields__, "position") | dict.fromkeys(Sensors.__struct_fields__, "sensors")
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
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [name.strip() for name in reader.fieldnames or ()]
    for required in ("machine_id", "recorded_at"):
        if required not in columns:
            raise BadPingsFile(f"{path}: no column {required} in the header")
    reader.fieldnames = columns
    unknown = tuple(name for name in columns if name not in _PLAIN_FIELDS and name not in _NESTED)
    return PingsFile(unknown, tuple(_rows(reader)))


def _rows(reader: "csv.DictReader[str]") -> Iterator[GoodRow | BadRow]:
    for cells in reader:
        value = _ping_json({name: cell.strip() for name, cell in cells.items() if isinstance(cell, str)})
        ping = decode(value)
        if isinstance(ping, Rejected):
            yield BadRow(reader.line_num, ping.message)
        else:
            yield GoodRow(ping.machine_id, value)


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
