"""What differs between two editions, value by value, and which machines a difference touches.

A difference in a tonnage bracket touches the machines between the tonnages where the two disagree; any other one
touches every machine. Texts count too: what a customer is told is part of an edition.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from telemetry_svc.rules.policy import Policy

Builtin = object


class TonnageRange(Struct, frozen=True):
    """From `from_t` (inclusive) up to `below_t` (exclusive); `None` = no end."""

    from_t: float
    below_t: float | None

    def holds(self, tonnage_t: float) -> bool:
        return self.from_t <= tonnage_t and (self.below_t is None or tonnage_t < self.below_t)


EVERY_MACHINE = TonnageRange(0, None)


class Difference(Struct, frozen=True):
    """One value: where it stands (`warranty.structure.brackets.limit_h`), what it is in A and in B, whom it touches."""

    where: str
    before: Builtin
    after: Builtin
    tonnage: TonnageRange = EVERY_MACHINE

    def touches(self, tonnage_t: float) -> bool:
        """Whether a machine of that operating weight is treated differently."""
        return self.tonnage.holds(tonnage_t)

    def __str__(self) -> str:
        limits = "" if self.tonnage == EVERY_MACHINE else f" [{_in_words(self.tonnage)}]"
        return f"{self.where}{limits}: {_text(self.before)} -> {_text(self.after)}"


def diff(a: Policy, b: Policy) -> tuple[Difference, ...]:
    """Every value that differs, in the order of the blocks; names and digests of the files are no difference."""
    return tuple(_differences("", _values(a), _values(b)))


def _values(policy: Policy) -> dict[str, Builtin]:
    """The policy as plain data, clauses by name, without what names the file rather than what it promises."""
    plain: dict[str, Builtin] = msgspec.to_builtins(policy, str_keys=True)
    for key in ("edition", "digest", "title_en", "title_zh"):
        plain.pop(key)
    plain["clauses"] = {one.clause: {"en": one.sentence_en, "zh-CN": one.sentence_zh} for one in policy.clauses}
    return plain


def _differences(where: str, a: Builtin, b: Builtin) -> Iterator[Difference]:
    if a == b:
        return
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _differences(f"{where}.{key}".lstrip("."), a.get(key), b.get(key))
    elif _is_brackets(a) and _is_brackets(b):
        yield from _bracket_differences(where, a, b)  # type: ignore[arg-type]
    else:
        yield Difference(_with_unit(where), _in_unit(where, a), _in_unit(where, b))


def _is_brackets(value: Builtin) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping) and "from_t" in value[0]


def _bracket_differences(
    where: str, a: Sequence[Mapping[str, Builtin]], b: Sequence[Mapping[str, Builtin]]
) -> Iterator[Difference]:
    """Between two neighbouring edges of either ladder the rows that hold there are compared."""
    edges = sorted({float(str(row["from_t"])) for row in (*a, *b)})
    for begin, end in zip(edges, [*edges[1:], None], strict=True):
        here, there = _row_at(a, begin), _row_at(b, begin)
        for key in dict.fromkeys([*here, *there]):
            path = f"{where}.{key}"
            if key not in ("from_t", "below_t") and here.get(key) != there.get(key):
                before, after = _in_unit(path, here.get(key)), _in_unit(path, there.get(key))
                yield Difference(_with_unit(path), before, after, TonnageRange(begin, end))


def _row_at(rows: Sequence[Mapping[str, Builtin]], tonnage_t: float) -> Mapping[str, Builtin]:
    return next(row for row in reversed(rows) if float(str(row["from_t"])) <= tonnage_t)


def _with_unit(where: str) -> str:
    """Hours are kept in hundredths; a person reads hours."""
    return f"{where.removesuffix('_ch')}_h" if where.endswith("_ch") else where


def _in_unit(where: str, value: Builtin) -> Builtin:
    return value / 100 if where.endswith("_ch") and isinstance(value, int) else value


def _in_words(tonnage: TonnageRange) -> str:
    return f"from {tonnage.from_t:g} t" + ("" if tonnage.below_t is None else f" to under {tonnage.below_t:g} t")


def _text(value: Builtin) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
