"""What was read in one go, partition by partition, with the offsets that it moves.

A batch can be cut in halves down to the single record, so that one value which PostgreSQL refuses costs one dead letter
and not its neighbours (design.md, decision 9).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
from msgspec import Struct

from telemetry_svc.store.gaps import Gap
from telemetry_svc.store.outbox import Headers
from telemetry_svc.store.ownership import Move, Offsets

APPEND_TIME = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HeldBack(Exception):
    """The handler will not store this batch now: it is rolled back and read again when `takes` allows."""


class Record(Protocol):
    """A record as the broker gave it; `timestamp` is in ms since 1970: the append time where `timestamp_type` is
    `APPEND_TIME`, and else what its producer says."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Slice(Struct, frozen=True):
    """What a batch holds of one partition: records of the group's first and second topic, each in order of offset.

    `apply_seq` is that of the last input before its records; they get the numbers after it, those of the second topic
    first. The `reserved` numbers up to and including it are the handler's, for what it takes up from elsewhere.
    """

    partition: int
    epoch: int
    before: Offsets
    after: Offsets
    first: list[Record]
    second: list[Record]
    apply_seq: int
    reserved: int = 0

    @property
    def size(self) -> int:
        return len(self.first) + len(self.second)

    def move(self) -> Move:
        return Move(self.partition, self.epoch, self.before, self.after, self.apply_seq + self.size)

    def halves(self) -> tuple["Slice", "Slice"]:
        """Two slices that do the same in two steps; the second topic comes whole before the first.

        What is taken up from elsewhere is cut off first: no record may answer for it.
        """
        cut = 0 if self.reserved else (self.size + 1) // 2
        second, first = self.second[:cut], self.first[: max(0, cut - len(self.second))]
        rest_first, rest_second = self.first[len(first) :], self.second[len(second) :]
        middle = (
            rest_first[0].offset if rest_first else self.after[0],
            rest_second[0].offset if rest_second else self.after[1],
        )
        head = msgspec.structs.replace(self, after=middle, first=first, second=second)
        tail = msgspec.structs.replace(
            self, before=middle, first=rest_first, second=rest_second, apply_seq=self.apply_seq + head.size, reserved=0
        )
        return head, tail


class Batch(Struct, frozen=True):
    """Slices of different partitions. `alone`: PostgreSQL refused the one record in it together with what was taken up
    from elsewhere, so nothing is taken up with it. `poison`: why the record itself cannot be stored as it is; with a
    `gap` it stands for all the records in it."""

    slices: tuple[Slice, ...]
    generation: int
    poison: str | None = None
    gap: Gap | None = None
    alone: bool = False

    @property
    def size(self) -> int:
        return sum(one.size for one in self.slices)

    def records(self) -> Iterator[Record]:
        for one in self.slices:
            yield from one.first
            yield from one.second

    @property
    def is_one(self) -> bool:
        """Whether it cannot be cut: one record at the most, or a turn without any."""
        return sum(one.size + (one.reserved > 0) for one in self.slices) <= 1

    def halves(self) -> tuple["Batch", "Batch"]:
        """Two smaller batches with the same effect, stored one after the other; not for one that `is_one`."""
        if len(self.slices) > 1:
            cut = len(self.slices) // 2
            return self._with(self.slices[:cut]), self._with(self.slices[cut:])
        head, tail = self.slices[0].halves()
        return self._with((head,)), self._with((tail,))

    def _with(self, slices: tuple[Slice, ...]) -> "Batch":
        return Batch(slices, self.generation)

    def poisoned(self, reason: str) -> "Batch":
        return msgspec.structs.replace(self, poison=reason, alone=False)

    def parts(self, reason: str) -> tuple["Batch", ...]:
        """What is stored in its place, one after the other, where PostgreSQL refuses it for `reason`: two halves; one
        record first alone, and as poison where it is refused again."""
        if not self.is_one:
            return self.halves()
        return (self.poisoned(reason) if self.alone else msgspec.structs.replace(self, alone=True),)


def appended_at(record: Record) -> datetime:
    """The broker's append time of a record: its `received_at`."""
    return _EPOCH + timedelta(milliseconds=record.timestamp)
