"""`machines import FILE.csv`: the same registration as over HTTP, row by row, with the line of each bad one.

Good rows go in, a batch per transaction; a bad row stops nothing. The file is read in one piece and bounded.
"""

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic_core
from msgspec import Struct
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.api.registration import Desk, Refused, register
from telemetry_svc.web.problems import field_errors

BATCH = 500
MAX_FILE_BYTES = 256 * 1024 * 1024


class BadRow(Struct, frozen=True):
    """A row that did not go in: its line in the file (the header is line 1) and why. No value is repeated."""

    line: int
    reason: str


class ImportReport(Struct, frozen=True):
    """What became of a file. `unknown_columns` were left out."""

    new: int
    known: int
    bad: tuple[BadRow, ...]
    unknown_columns: tuple[str, ...]


class BadFileError(ValueError):
    """The file as a whole is no good; one clear line says why."""


class _Row(Struct, frozen=True):
    line: int
    fields: MachineFields


async def import_machines(path: Path, engine: AsyncEngine, desk: Desk, *, quiet: bool) -> ImportReport:
    """Registers the machines of a CSV file. `quiet` settles what their first reading shows. Raises `BadFileError`."""
    text = await asyncio.to_thread(_read, path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = _header(reader)
    rows = [_checked(line, columns, cells) for line, cells in records(reader)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    good = [row for row in rows if isinstance(row, _Row)]
    new = known = 0
    for start in range(0, len(good), BATCH):
        batch = good[start : start + BATCH]
        async with engine.begin() as connection:
            outcomes = await register(connection, desk, [row.fields for row in batch], quiet=quiet)
        for row, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refused):
                bad.append(BadRow(row.line, f"{outcome.field}: {outcome.message}"))
            elif outcome.new:
                new += 1
            else:
                known += 1
    unknown = tuple(name for name in columns if name not in CELLS)
    return ImportReport(new, known, tuple(sorted(bad, key=lambda row: row.line)), unknown)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes; import it in parts")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadFileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadFileError(f"{path}: byte {error.start} is not UTF-8; save it as CSV in UTF-8") from None


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise BadFileError(f"line 1: {error}") from None
    if "machine_id" not in columns:
        raise BadFileError("line 1: the header names no column machine_id")
    twice = sorted({name for name in columns if columns.count(name) > 1 and name in CELLS})
    if twice:
        raise BadFileError(f"line 1: the header names {', '.join(twice)} twice")
    return columns


def records(reader: Any) -> Iterator[tuple[int, list[str] | None]]:
    """The first line of each record with its cells, None where it cannot be read; blank lines are none."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            cells = None
        if cells != []:
            yield line, cells


def _checked(line: int, columns: Sequence[str], cells: Sequence[str] | None) -> _Row | BadRow:
    if cells is None:
        return BadRow(line, "cannot be read as CSV: a quote is not closed or stands in the wrong place")
    if len(cells) != len(columns):
        return BadRow(line, f"has {len(cells)} cells, the header has {len(columns)}")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True) if name in CELLS and cell.strip()}
    try:
        return _Row(line, MachineFields.model_validate({name: _value(name, cell) for name, cell in given.items()}))
    except ValidationError as error:
        found = field_errors([{**one} for one in error.errors(include_url=False, include_input=False)])
        return BadRow(line, "; ".join(f"{one.field}: {one.message}" for one in found))
    except _BadCellError as error:
        return BadRow(line, str(error))


class _BadCellError(ValueError):
    """A cell that is not even of its column's kind."""


def _value(name: str, cell: str) -> Any:
    try:
        return CELLS[name](cell)
    except ValueError as error:
        raise _BadCellError(f"{name}: {error}") from None


def _number(cell: str) -> float:
    if _NUMBER.fullmatch(cell) is None:
        raise ValueError("not a number like 21.5")
    return float(cell)


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(";") if name.strip()]


def _json(cell: str) -> Any:
    try:
        return pydantic_core.from_json(cell, allow_inf_nan=False)
    except ValueError:
        raise ValueError("not JSON") from None


_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,12})?", re.ASCII)

CELLS: Mapping[str, Callable[[str], Any]] = {
    "machine_id": str,
    "tonnage_t": _number,
    "model": str,
    "delivered_on": str,
    "time_zone": str,
    "policy_edition": str,
    "initial_hours_h": _number,
    "status": str,
    "device_ids": _names,
    "expert_id": str,
    "team_id": str,
    "customer_id": str,
    "customer_name": str,
    "customer_phone": str,
    "geofence": _json,
    "permitted_hours": _json,
}
"""The columns of the file and what their cells are (contract.md, Machine v1)."""
