"""What is told of a run, whatever became of it: the seed, a line per figure, what struck, and where the evidence is.

A run that broke off is an outcome, too: its figures are told as far as they are known.
"""

import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.chaos.compare import compare, missing_parts
from tests.chaos.nemesis import Tally
from tests.chaos.plan import DATABASE_KILLS, KILLS, OUTAGES, Fault, Kind, Need, planned
from tests.chaos.records import Figures, Journal, Observed, Sent

KEPT, BROKEN, INCONCLUSIVE = 0, 1, 3
VERDICTS = {KEPT: "all promises kept", BROKEN: "BROKEN", INCONCLUSIVE: "inconclusive"}


class Met(Struct, frozen=True):
    """What a run has met; whether it counts is decided by this."""

    kills_in_transaction: int = 0
    redelivered: int = 0
    fenced: int = 0
    in_doubt: int = 0


class Outcome(Struct, frozen=True):
    """What came of a run. `figures`: None where it never came to the comparison; `wrongs`: what no figure tells;
    `missing`: parts that did nothing. `evidence`: the folder that holds all that was known of it.
    """

    seed: int
    figures: Figures | None
    met: Met
    need: Need
    planned: Counter[Kind]
    tally: Tally
    wrongs: tuple[str, ...]
    missing: tuple[str, ...]
    acknowledged: int
    repeats_on_the_wire: int
    took_s: float
    evidence: Path
    build: str | None = None

    @property
    def is_clean(self) -> bool:
        """Compared, and nothing found; whether it proves anything is another matter."""
        return self.figures is not None and self.figures.clean and not self.wrongs

    @property
    def too_little(self) -> tuple[str, ...]:
        """What struck less often than planned, or was met less often than needed."""
        struck = self.tally.struck
        less = [f"{kind}: {struck[kind]} of {count}" for kind, count in self.planned.items() if struck[kind] < count]
        names = self.need.__struct_fields__
        unmet = [name for name in names if getattr(self.met, name) < getattr(self.need, name)]
        return (*less, *(f"{_words(name)}: {getattr(self.met, name)}" for name in unmet))

    @property
    def exit_code(self) -> int:
        """0 all promises kept, 1 broken or not known, 3 inconclusive: all was well, but too little had gone wrong."""
        if not self.is_clean or self.missing:
            return BROKEN
        return INCONCLUSIVE if self.too_little else KEPT

    def lines(self) -> list[str]:
        """The report."""
        counts = dict.fromkeys(Figures.__struct_fields__, "not known")
        counts |= {} if self.figures is None else {name: str(n) for name, n in self.figures.counts().items()}
        where = "" if self.exit_code == KEPT else f"; evidence in {self.evidence}"
        return [
            _line("seed", f"{self.seed}" + (f", build {self.build}" if self.build else "")),
            *(_line(name, count) for name, count in counts.items()),
            *(_line("wrong", wrong) for wrong in self.wrongs),
            *(_line("nothing came of", name) for name in self.missing),
            *(_line("too little", what) for what in (self.too_little if self.exit_code == INCONCLUSIVE else ())),
            *self._done_to_it(),
            _line("pings acknowledged", self.acknowledged),
            _line("repeats on the wire", self.repeats_on_the_wire),
            _line("took", f"{self.took_s:.0f} s"),
            _line("verdict", VERDICTS[self.exit_code] + where),
        ]

    def _done_to_it(self) -> Iterator[str]:
        struck, tally = self.tally.struck, self.tally
        for name in self.met.__struct_fields__:
            yield _line(_words(name), f"{getattr(self.met, name)} (at least {getattr(self.need, name)})")
        for name, kinds in {"SIGKILLs": KILLS, "database kills": DATABASE_KILLS, "outages": OUTAGES}.items():
            of_each = ", ".join(f"{kind}: {struck[kind]}" for kind in kinds)
            yield _line(name, f"{_sum(struck, kinds)} of {_sum(self.planned, kinds)} ({of_each})")
        others = [kind for kind in Kind if kind not in {*KILLS, *DATABASE_KILLS, *OUTAGES} and self.planned[kind]]
        yield from (_line("struck", f"{struck[kind]} of {self.planned[kind]}: {kind}") for kind in others)
        yield _line("hit", f"{tally.sessions_ended} sessions, {tally.sleepers} sleepers; {tally.missed} met nobody")


@dataclass
class Known:
    """What is known of a run so far; filled in while it lives."""

    seed: int
    faults: tuple[Fault, ...]
    need: Need
    evidence: Path
    build: str | None = None
    journal: Journal | None = None
    seen: Observed | None = None
    sent: Callable[[], tuple[Sent, ...]] = tuple
    met: Callable[[], Met] = Met
    tally: Tally = field(default_factory=Tally)
    wrongs: list[str] = field(default_factory=list)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """What goes wrong in the block is known from then on, and goes no further."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is part of the outcome
            with (self.evidence / "traceback.txt").open("a", encoding="utf-8") as file:
                file.write(traceback.format_exc())
            self.wrongs += [f"{what}: {type(cause).__name__}: {cause}" for cause in _causes(error)]

    def outcome(self, took_s: float) -> Outcome:
        """What came of it, compared where both sides are known."""
        alerts = () if self.seen is None else self.seen.alerts
        figures: Figures | None = None
        missing: tuple[str, ...] = ()
        if self.journal is not None and self.seen is not None:
            figures, missing = compare(self.journal, self.seen), missing_parts(self.journal, self.seen)
        return Outcome(
            seed=self.seed,
            figures=figures,
            met=self.met(),
            need=self.need,
            planned=planned(self.faults),
            tally=self.tally,
            wrongs=tuple(self.wrongs),
            missing=missing,
            acknowledged=sum(one.acknowledged for one in self.sent()),
            repeats_on_the_wire=len(alerts) - len(set(alerts)),
            took_s=took_s,
            evidence=self.evidence,
            build=self.build,
        )

    def begin(self) -> None:
        """An empty folder with the plan: what comes of an earlier run is no evidence of this one."""
        shutil.rmtree(self.evidence, ignore_errors=True)
        self.evidence.mkdir(parents=True)
        self._keep("plan", self.faults)

    def keep(self, outcome: Outcome) -> None:
        """What a person needs to find the cause: the findings, both sides of the comparison, the report."""
        self._keep("findings", {"wrongs": outcome.wrongs, "missing": outcome.missing, "figures": outcome.figures})
        self._keep("expected", self.journal)
        self._keep("observed", self.seen)
        (self.evidence / "report.txt").write_text("\n".join(outcome.lines()) + "\n", encoding="utf-8")

    def _keep(self, name: str, what: object) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(what, enc_hook=str), indent=1)
        (self.evidence / f"{name}.json").write_bytes(encoded)


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    else:
        yield error


def _line(name: str, what: object) -> str:
    return f"{name:<22} {what}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sum(counts: Counter[Kind], kinds: tuple[Kind, ...]) -> int:
    return sum(counts[kind] for kind in kinds)
