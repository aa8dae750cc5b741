"""A CSV file that somebody made by hand or exported: what can be read of it, and the line of what cannot.

A bad record stops nothing; a bad file as a whole is one clear line. Nothing is guessed: a record with a cell too few or
too many is bad, for its cells may stand under the wrong names.
"""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

MAX_FILE_BYTES = 256 * 1024 * 1024


class BadFileError(ValueError):
    """The file as a whole is no good; one clear line says why."""


class BadRow(Struct, frozen=True):
    """A row that did not go in: its line in the file (the header is line 1) and why. No value is repeated."""

    line: int
    reason: str


class Row(Struct, frozen=True):
    """The cells of the known columns that are not empty, by the name of their column."""

    line: int
    cells: Mapping[str, str]


class CsvFile(Struct, frozen=True):
    """The records of a file in order, and the columns that were left out."""

    rows: tuple[Row | BadRow, ...]
    unknown_columns: tuple[str, ...]


def read_csv(path: Path, known: Collection[str], required: Sequence[str]) -> CsvFile:
    """Reads a CSV file in UTF-8, in one piece, whose header names the `required` columns. Raises `BadFileError`."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    columns = _header(path, reader, known, required)
    rows = tuple(_row(line, columns, cells, known) for line, cells in _records(reader))
    return CsvFile(rows, tuple(name for name in columns if name not in known))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes; import it in parts")
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise BadFileError(f"{path}: {error.strerror}") from None


def _header(path: Path, reader: Iterator[list[str]], known: Collection[str], required: Sequence[str]) -> list[str]:
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise BadFileError(f"{path}:1: {error}") from None
    if not all(map(_is_utf8, columns)):
        raise BadFileError(f"{path}:1: the header is not UTF-8; save it as CSV in UTF-8")
    missing = [name for name in required if name not in columns]
    if missing:
        raise BadFileError(f"{path}:1: the header names no column {' and no '.join(missing)}")
    twice = sorted({name for name in columns if columns.count(name) > 1 and name in known})
    if twice:
        raise BadFileError(f"{path}:1: the header names {', '.join(twice)} twice")
    return columns


def _records(reader: Any) -> Iterator[tuple[int, list[str] | None]]:
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


def _is_utf8(cell: str) -> bool:
    """False where a byte was kept as half a surrogate pair, since it was no UTF-8 (PEP 383)."""
    return not any("\udc80" <= char <= "\udcff" for char in cell)


def _row(line: int, columns: Sequence[str], cells: Sequence[str] | None, known: Collection[str]) -> Row | BadRow:
    if cells is None:
        return BadRow(line, "cannot be read as CSV: a quote is not closed or stands in the wrong place")
    if not all(cell.isascii() or _is_utf8(cell) for cell in cells):
        return BadRow(line, "is not UTF-8")
    if len(cells) != len(columns):
        return BadRow(line, f"has {len(cells)} cells, the header has {len(columns)}")
    named = zip(columns, cells, strict=True)
    return Row(line, {name: cell.strip() for name, cell in named if name in known and cell.strip()})
