"""What fault codes mean, for people: suspect parameter numbers (SPN) and failure modes (FMI) in English and
Chinese.

Source of the numbers and short names: SAE J1939 as found in public lists; descriptions and advice are ours. Kept
beside the editions, not in them: a name is no promise.
"""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from msgspec import Struct


class SpnText(Struct, frozen=True):
    """One suspect parameter: its name in both languages and a line of advice for the expert."""

    spn: int
    en: str
    zh: str
    advice_en: str
    advice_zh: str


class Catalogue(Struct, frozen=True):
    """`spns` by number."""

    spns: Mapping[int, SpnText]


@cache
def load_catalogue() -> Catalogue:
    """The tables that come with the package."""
    lines = (files("telemetry_svc.policies") / "tables" / "spns.csv").read_text(encoding="utf-8").splitlines()
    return Catalogue({int(row["spn"]): _spn(row) for row in csv.DictReader(lines)})


def _spn(row: Mapping[str, str]) -> SpnText:
    return SpnText(int(row["spn"]), row["en"], row["zh"], row["advice_en"], row["advice_zh"])
