"""What differs between two editions, value by value, and which machines a difference touches.

A difference in a tonnage bracket touches the machines between the tonnages where the two disagree, one in a rule that
needs a delivery date, a geofence or permitted hours those that have them; any other one touches every machine. Texts
count too: what a customer is told is part of an edition.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Protocol

from msgspec import Struct

from telemetry_svc.policies.plain import Plain, plain, text_of
from telemetry_svc.rules.policy import Policy


class Bound(Protocol):
    """A machine as far as a difference asks about it. `tonnage_t`: operating weight."""

    @property
    def tonnage_t(self) -> float: ...

    @property
    def delivered_on(self) -> date | None: ...

    @property
    def has_geofence(self) -> bool: ...

    @property
    def has_permitted_hours(self) -> bool: ...


class TonnageRange(Struct, frozen=True):
    """From `from_t` (inclusive) up to `below_t` (exclusive); `None` = no end."""

    from_t: float
    below_t: float | None

    def holds(self, tonnage_t: float) -> bool:
        return self.from_t <= tonnage_t and (self.below_t is None or tonnage_t < self.below_t)


EVERY_MACHINE = TonnageRange(0, None)

_NEEDS_DELIVERY = ("warranty.machine.brackets.months", "warranty.machine.expiring_before_days")
_NEEDS_GEOFENCE = ("geofence.",)
_NEEDS_PERMITTED_HOURS = ("movement.outside_hours.",)


class Difference(Struct, frozen=True):
    """One value: where it stands (`warranty.structure.brackets.limit_h`), what it is in A and in B, whom it touches."""

    where: str
    before: Plain
    after: Plain
    tonnage: TonnageRange = EVERY_MACHINE

    def touches(self, machine: Bound) -> bool:
        """Whether that machine is treated differently."""
        if self.where.startswith(_NEEDS_DELIVERY) and machine.delivered_on is None:
            return False
        if self.where.startswith(_NEEDS_GEOFENCE) and not machine.has_geofence:
            return False
        if self.where.startswith(_NEEDS_PERMITTED_HOURS) and not machine.has_permitted_hours:
            return False
        return self.tonnage.holds(machine.tonnage_t)

    def __str__(self) -> str:
        limits = "" if self.tonnage == EVERY_MACHINE else f" [{_in_words(self.tonnage)}]"
        return f"{self.where}{limits}: {text_of(self.before)} -> {text_of(self.after)}"


def diff(a: Policy, b: Policy) -> tuple[Difference, ...]:
    """Every value that differs, in the order of the blocks; names and digests of the files are no difference."""
    return tuple(_differences("", _values(a), _values(b)))


def _values(policy: Policy) -> dict[str, Plain]:
    """The values, and the sentences by clause."""
    clauses = {one.clause: {"en": one.sentence_en, "zh-CN": one.sentence_zh} for one in policy.clauses}
    return {"clauses": clauses} | plain(policy)


def _differences(where: str, a: Plain, b: Plain) -> Iterator[Difference]:
    if a == b:
        return
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _differences(f"{where}.{key}".lstrip("."), a.get(key), b.get(key))
    elif _is_brackets(a) and _is_brackets(b):
        yield from _bracket_differences(where, a, b)  # type: ignore[arg-type]
    else:
        yield Difference(where, a, b)


def _is_brackets(value: Plain) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping) and "from_t" in value[0]


def _bracket_differences(
    where: str, a: Sequence[Mapping[str, Plain]], b: Sequence[Mapping[str, Plain]]
) -> Iterator[Difference]:
    """Between two neighbouring edges of either ladder the rows that hold there are compared."""
    edges = sorted({float(str(row["from_t"])) for row in (*a, *b)})
    for begin, end in zip(edges, [*edges[1:], None], strict=True):
        here, there = _row_at(a, begin), _row_at(b, begin)
        for key in dict.fromkeys([*here, *there]):
            if key not in ("from_t", "below_t") and here.get(key) != there.get(key):
                yield Difference(f"{where}.{key}", here.get(key), there.get(key), TonnageRange(begin, end))


def _row_at(rows: Sequence[Mapping[str, Plain]], tonnage_t: float) -> Mapping[str, Plain]:
    return next(row for row in reversed(rows) if float(str(row["from_t"])) <= tonnage_t)


def _in_words(tonnage: TonnageRange) -> str:
    return f"from {tonnage.from_t:g} t" + ("" if tonnage.below_t is None else f" to under {tonnage.below_t:g} t")
