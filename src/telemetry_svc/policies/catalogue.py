"""What fault codes mean, for people: suspect parameter numbers (SPN) and failure modes (FMI), English and Chinese.

Source of the numbers and short names: SAE J1939 as found in public lists; the Chinese names and the advice are
ours. Kept beside the editions, not in them: a name is no promise. Events carry the English description; the call
script asks here for the other language and for the advice.
"""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from msgspec import Struct


class Text(Struct, frozen=True):
    """The same in both languages; `zh` is simplified Chinese."""

    en: str
    zh: str


class Spn(Struct, frozen=True):
    """One suspect parameter: its name, and a line of advice for the expert who calls."""

    spn: int
    name: Text
    advice: Text


class Catalogue(Struct, frozen=True):
    """`spns` by number, `fmis` 0 to 31; `unknown`: advice for a code that the table does not know."""

    spns: Mapping[int, Spn]
    fmis: Mapping[int, Text]
    unknown: Text

    def description(self, spn: int, fmi: int) -> Text:
        """A code in words; an SPN that the table does not know goes by its number."""
        known = self.spns.get(spn)
        name = Text(f"SPN {spn}", f"SPN {spn}") if known is None else known.name
        mode = self.fmis[fmi]
        return Text(f"{name.en}: {mode.en}", f"{name.zh}：{mode.zh}")  # noqa: RUF001 - Chinese

    def advice(self, spn: int) -> Text:
        """What the expert asks and checks first."""
        known = self.spns.get(spn)
        return self.unknown if known is None else known.advice


@cache
def load_catalogue() -> Catalogue:
    """The tables that come with the package."""
    advice = {row["group"]: Text(row["en"], row["zh"]) for row in _rows("advice.csv")}
    spns = [Spn(int(row["spn"]), Text(row["en"], row["zh"]), advice[row["group"]]) for row in _rows("spns.csv")]
    fmis = {int(row["fmi"]): Text(row["en"], row["zh"]) for row in _rows("fmis.csv")}
    return Catalogue({one.spn: one for one in spns}, fmis, advice["unknown"])


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (files("telemetry_svc.policies") / "tables" / name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())
