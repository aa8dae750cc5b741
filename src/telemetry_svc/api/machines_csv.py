"""`machines import FILE.csv`: the same registration as over HTTP, row by row, with the line of each bad one.

Good rows go in, a batch per transaction; a bad row stops nothing. The file is read in one piece and bounded.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pydantic_core
from msgspec import Struct
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api.csv_file import BadRow, Row, read_csv
from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.api.registration import Desk, Refused, register
from telemetry_svc.web.problems import field_errors

BATCH = 500


class ImportReport(Struct, frozen=True):
    """What became of a file. `unknown_columns` were left out."""

    new: int
    known: int
    bad: tuple[BadRow, ...]
    unknown_columns: tuple[str, ...]


class _Machine(Struct, frozen=True):
    line: int
    fields: MachineFields


async def import_machines(path: Path, engine: AsyncEngine, desk: Desk, *, quiet: bool) -> ImportReport:
    """Registers the machines of a CSV file. `quiet` settles what their first reading shows. Raises `BadFileError`."""
    file = await asyncio.to_thread(read_csv, path, CELLS, ["machine_id"])
    rows = [_checked(row) for row in file.rows]
    bad = [row for row in rows if isinstance(row, BadRow)]
    good = [row for row in rows if isinstance(row, _Machine)]
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
    return ImportReport(new, known, tuple(sorted(bad, key=lambda row: row.line)), file.unknown_columns)


def _checked(row: Row | BadRow) -> _Machine | BadRow:
    if isinstance(row, BadRow):
        return row
    try:
        given = {name: _value(name, cell) for name, cell in row.cells.items()}
        return _Machine(row.line, MachineFields.model_validate(given))
    except ValidationError as error:
        found = field_errors([{**one} for one in error.errors(include_url=False, include_input=False)])
        return BadRow(row.line, "; ".join(f"{one.field}: {one.message}" for one in found))
    except _BadCellError as error:
        return BadRow(row.line, str(error))


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
