"""Deliveries and facts as JSON lines, so that a run can be checked after the fact and by another process.

The journal of deliveries is written ahead: a line stands in the file before its ping is handed on. Whoever sends can
therefore always be compared with what was sent, also after he was killed in mid-send.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.truth import Fact

_ENCODER = msgspec.json.Encoder()
_Line = TypeVar("_Line", Delivery, Fact)


def journaled(deliveries: Iterable[Delivery], out: BinaryIO) -> Iterator[Delivery]:
    """Each delivery, after its line was written to `out` (flushed: it survives the process, not the machine)."""
    for delivery in deliveries:
        out.write(_line(delivery))
        out.flush()
        yield delivery


def write_lines(lines: Iterable[Delivery | Fact], path: Path) -> None:
    """Writes deliveries or facts, one object a line."""
    with path.open("wb") as out:
        out.writelines(_line(line) for line in lines)


def read_deliveries(path: Path) -> Iterator[Delivery]:
    """The deliveries of a journal; a last line that was cut off by a kill is left out."""
    return _read(path, Delivery)


def read_facts(path: Path) -> Iterator[Fact]:
    """The facts of a journal."""
    return _read(path, Fact)


def _line(line: Delivery | Fact) -> bytes:
    return _ENCODER.encode(line._asdict()) + b"\n"


def _read(path: Path, kind: type[_Line]) -> Iterator[_Line]:
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                fields = msgspec.json.decode(line, type=dict[str, object])
                yield msgspec.convert([fields[name] for name in kind._fields], kind)
