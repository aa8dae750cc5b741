"""What a run of chaos knows: what was sent and promised (`Journal`) and what came of it (`Observed`).

Plain data, so that the comparison is pure and a doctored observation shows that each figure can be other than 0.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from telemetry_svc.simulate.truth import Fact

Figure = Literal["lost", "duplicated", "reordered", "phantom", "stuck", "double_leased"]
Finding = tuple[Figure, str]

Position = tuple[int, int]
"""Partition and offset."""

PingKey = tuple[str, datetime, int | None, bool | None, int | None]
"""Machine, recorded_at (UTC), meter in hundredths of an hour, engine, sequence: what tells two pings apart."""


class Sent(Struct, frozen=True):
    """A record handed to a producer. `digest` of its bytes finds it in the broker's log; repeats share it.

    `key` of a good one; `error_class` of one that must become a dead letter.
    """

    digest: str
    key: PingKey | None = None
    error_class: str | None = None
    acknowledged: bool = False


class Lease(Struct, frozen=True):
    """A lease that a claimer was granted and, by PostgreSQL's clock, surely had from `since` to `until`.

    `reasons`: the alerts that he was told to call about.
    """

    task_id: str
    token: str
    since: datetime
    until: datetime
    reasons: frozenset[UUID] = frozenset()


class Settlement(Struct, frozen=True):
    """A claimer's word that he has called about `reasons`. `at`: when it was acknowledged; None: it never was."""

    task_id: str
    reasons: frozenset[UUID]
    at: datetime | None = None


class Order(Struct, frozen=True):
    """An inspection that was reported done: `attempts` until one was acknowledged, as the command `command_id`."""

    machine_id: str
    milestone_h: int
    performed_at: datetime
    attempts: int = 0
    command_id: str | None = None


class Hours(Struct, frozen=True):
    """What must be remembered of a machine: its newest reading, and its true hours in hundredths."""

    newest: datetime
    true_ch: int | None


class Journal(Struct, frozen=True):
    """`must`: facts that have to be there; `may`: those that may be there too (a calendar day that came meanwhile).

    `late`: machines that were registered while their pings were already coming in.
    """

    sent: tuple[Sent, ...]
    must: tuple[Fact, ...] = ()
    may: tuple[Fact, ...] = ()
    machines: Mapping[str, Hours] = {}
    leases: tuple[Lease, ...] = ()
    settlements: tuple[Settlement, ...] = ()
    orders: tuple[Order, ...] = ()
    late: frozenset[str] = frozenset()


class Logged(Struct, frozen=True):
    """A record in the broker's log of pings."""

    position: Position
    digest: str


class HistoryRow(Struct, frozen=True):
    """A stored ping."""

    key: PingKey
    position: Position
    apply_seq: int


class EventRow(Struct, frozen=True):
    """A stored fact; `topic` is where it belongs, `priority` that of its call (None: nobody is called)."""

    id: UUID
    fact: Fact
    topic: str
    priority: int | None = None


class Told(Struct, frozen=True):
    """A record of an alert topic, as far as it matters here."""

    topic: str
    machine_id: str
    id: UUID


class Letter(Struct, frozen=True):
    """A dead letter: where its record came from and why. `taken_up`: what became of it at a late registration."""

    topic: str
    position: Position
    error_class: str
    taken_up: str | None = None


class Task(Struct, frozen=True):
    """A call task. `reasons`: ids of the alerts that are open reasons of it."""

    machine_id: str
    task_id: str
    state: str
    priority: int
    reasons: frozenset[UUID]


class Change(Struct, frozen=True):
    """One change of a task: a row of the history, or a record of the topic (then with its id)."""

    machine_id: str
    task_id: str
    state: str
    id: str = ""


class CommandRow(Struct, frozen=True):
    """A command as whoever gave it sees it."""

    machine_id: str
    kind: str
    command_id: str
    status: str


class Remembered(Struct, frozen=True):
    """What a state says has been raised: the last stage of each milestone, and the fault episodes that are open."""

    milestones: Mapping[str, str] = {}
    faults: frozenset[str] = frozenset()


class Observed(Struct, frozen=True):
    """Everything after the drain. Rows in the order in which they were stored, records in that of their partition.

    `stuck`: what was not final, each as a line of text; `gaps`: offsets that were skipped, likewise; `slots`: how many
    the schedulers did; `settled`: reasons that ended because somebody had called; `outcomes`: the task of each.
    """

    log: tuple[Logged, ...] = ()
    history: tuple[HistoryRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    alerts: tuple[Told, ...] = ()
    letters: tuple[Letter, ...] = ()
    letter_records: tuple[Letter, ...] = ()
    states: Mapping[str, Hours] = {}
    tasks: tuple[Task, ...] = ()
    changes: tuple[Change, ...] = ()
    calls: tuple[Change, ...] = ()
    stuck: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    slots: int = 0
    commands: tuple[CommandRow, ...] = ()
    remembered: Mapping[str, Remembered] = {}
    settled: frozenset[UUID] = frozenset()
    outcomes: tuple[str, ...] = ()


class Figures(Struct, frozen=True):
    """The six figures as what was found; a promise is kept where all are empty."""

    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    reordered: tuple[str, ...] = ()
    phantom: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    double_leased: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Figure → how many findings."""
        return {name: len(getattr(self, name)) for name in self.__struct_fields__}

    @property
    def clean(self) -> bool:
        return not any(self.counts().values())
