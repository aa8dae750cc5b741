"""What people say is held against what came of it: each loss and each doubling of a command or an outcome is seen."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from msgspec.structs import replace

from telemetry_svc import topics
from telemetry_svc.simulate.truth import Fact
from tests.chaos.compare import NAMESPACE, compare
from tests.chaos.expect import with_inspections
from tests.chaos.records import (
    CommandRow,
    EventRow,
    Figures,
    Lease,
    Letter,
    Observed,
    Order,
    Remembered,
    Settlement,
    Task,
    Told,
)
from tests.chaos.test_compare import EVENTS, JOURNAL, MACHINE, NOON, OTHER, WELL, Doctor, both, promised, seen

LATER = NOON + timedelta(minutes=5)
OPENED = "110/0/0@2026-11-20T12:04:00.000Z"


def row(rule: str, subject: str, stage: str, minute: int) -> EventRow:
    fact = Fact(MACHINE, rule, subject, stage, NOON + timedelta(minutes=minute))
    topic = topics.MAINTENANCE_DUE if rule == "inspection" else topics.ANOMALY
    return EventRow(uuid5(NAMESPACE, "|".join(fact[:4])), fact, topic)


def told(*rows: EventRow) -> tuple[Told, ...]:
    return tuple(Told(one.topic, MACHINE, one.id) for one in rows)


DONE, FAULT = row("inspection", "500", "completed", 3), row("fault", OPENED, "opened", 4)
ORDER = Order(MACHINE, 500, NOON + timedelta(minutes=3), attempts=2, command_id="c1")
REPORTED = CommandRow(MACHINE, "inspection_done", "c1", "applied")
REPEATED = CommandRow(MACHINE, "inspection_done", "c2", "rejected")
COMMANDS = (*WELL.commands, REPORTED, REPEATED)
REMEMBERED = Remembered({"250": "overdue", "500": "completed"}, frozenset({OPENED}))
HERS = replace(JOURNAL, must=(*JOURNAL.must, DONE.fact, FAULT.fact), orders=(ORDER,))
BUSY = replace(
    WELL,
    events=(*EVENTS, DONE, FAULT),
    alerts=(*WELL.alerts, *told(DONE, FAULT)),
    commands=COMMANDS,
    remembered={MACHINE: REMEMBERED},
)
LATE_DUE = row("inspection", "500", "due", 5)
WAITED = Letter(topics.PINGS, (4, 12), "unknown_machine", "replayed")


def commanded(*commands: CommandRow) -> Doctor:
    return seen(commands=(*WELL.commands, *commands))


def remembers(**changed: Any) -> Doctor:
    return seen(remembered={MACHINE: replace(REMEMBERED, **changed)})


def waiting(letter: Letter, **late: Any) -> Doctor:
    letters = (*WELL.letters, letter)
    return both(late, letters=letters, letter_records=letters)


def settled(**changed: Any) -> Doctor:
    return promised(settlements=(replace(JOURNAL.settlements[0], **changed),))


def offered(task_id: str, *reasons: UUID) -> Doctor:
    lease = Lease(task_id, "z", LATER, LATER + timedelta(seconds=2), frozenset(reasons))
    return promised(leases=(*JOURNAL.leases, lease))


CLEAN: dict[str, Doctor] = {
    "all is well": seen(),
    "a repeat that did not get through": commanded(REPORTED),
    "what was never acknowledged, and came": promised(orders=(replace(ORDER, command_id=None),)),
    "an outcome that was never acknowledged, and came": settled(at=None),
    "offered again before it was settled": settled(at=NOON + timedelta(hours=1)),
    "another reason of the machine is offered": offered("rest", EVENTS[1].id),
    "a ping that waited for the registration": waiting(WAITED, late=frozenset({MACHINE})),
    "a storm, in which faults open without a fact": seen(
        remembered={MACHINE: replace(REMEMBERED, faults=frozenset({OPENED, "111/0/0@2026-11-20T12:04:00.000Z"}))},
        events=(*BUSY.events, STORM := row("storm", "2026-11-20T12:00:00.000Z", "opened", 0)),
        alerts=(*BUSY.alerts, *told(STORM)),
    ),
}
WRONG: dict[str, tuple[Doctor, dict[str, int]]] = {
    "an acknowledged command is gone": (commanded(REPEATED), {"lost": 2}),
    "its first attempt was applied, the acknowledged one is gone": (
        commanded(replace(REPEATED, status="applied")),
        {"lost": 1},
    ),
    "a command was decided twice, so it was refused": (
        commanded(replace(REPORTED, status="rejected"), REPEATED),
        {"lost": 1},
    ),
    "both attempts were applied": (commanded(REPORTED, replace(REPEATED, status="applied")), {"duplicated": 1}),
    "more commands than attempts": (
        commanded(REPORTED, REPEATED, replace(REPEATED, command_id="c3")),
        {"duplicated": 1},
    ),
    "a machine was registered twice": (commanded(*WELL.commands, REPORTED), {"duplicated": 1}),
    "a command that nobody gave": (
        commanded(REPORTED, replace(REPEATED, machine_id=OTHER)),
        {"phantom": 1},
    ),
    "its fact is gone": (
        seen(events=(*EVENTS, FAULT), alerts=(*WELL.alerts, *told(FAULT))),
        {"lost": 1, "phantom": 1},
    ),
    "something is raised of what was done": (
        both(
            {"may": (LATE_DUE.fact,)},
            events=(*BUSY.events, LATE_DUE),
            alerts=(*BUSY.alerts, *told(LATE_DUE)),
            remembered={},
        ),
        {"phantom": 1},
    ),
    "a state that was set back": (remembers(milestones={"250": "due", "500": "completed"}), {"phantom": 1}),
    "a state that forgot a fault": (remembers(faults=frozenset()), {"phantom": 1}),
    "an acknowledged outcome is gone": (
        seen(tasks=(replace(WELL.tasks[0], state="pending"), *WELL.tasks[1:]), settled=frozenset(), outcomes=()),
        {"lost": 1, "duplicated": 1},
    ),
    "an outcome that nobody told": (promised(settlements=()), {"phantom": 2}),
    "an outcome twice": (seen(outcomes=("old", "old")), {"duplicated": 1}),
    "what was settled is a reason again": (
        seen(tasks=(WELL.tasks[0], replace(WELL.tasks[1], reasons=WELL.tasks[1].reasons | {EVENTS[0].id}))),
        {"duplicated": 1, "phantom": 1},
    ),
    "what was called about is offered again": (offered("rest", EVENTS[0].id), {"duplicated": 1}),
    "a task that was settled is offered again": (offered("old"), {"duplicated": 1}),
    "the reason that is left is no reason any more": (
        both(
            {"settlements": (*JOURNAL.settlements, Settlement("task", frozenset({EVENTS[1].id})))},
            tasks=(WELL.tasks[0], Task(MACHINE, "rest", "pending", 5, frozenset())),
            changes=(),
            calls=(),
        ),
        {"lost": 1},
    ),
    "a ping that waits for the registration for ever": (
        waiting(replace(WAITED, taken_up=None), late=frozenset({MACHINE})),
        {"lost": 1},
    ),
    "a ping that waited, of a machine that was always known": (waiting(WAITED), {"phantom": 1}),
}


def found(doctor: Doctor) -> dict[str, int]:
    figures: Figures = compare(*doctor(HERS, BUSY))
    return {name: count for name, count in figures.counts().items() if count}


@pytest.mark.parametrize("doctor", CLEAN.values(), ids=CLEAN.keys())
def test_what_is_well_has_no_findings(doctor: Doctor) -> None:
    assert found(doctor) == {}


@pytest.mark.parametrize(("doctor", "expected"), WRONG.values(), ids=WRONG.keys())
def test_each_wrong_is_seen_and_named(doctor: Doctor, expected: dict[str, int]) -> None:
    assert found(doctor) == expected


def test_an_inspection_done_leaves_open_what_was_said_of_it_before() -> None:
    due = row("inspection", "500", "due", 1).fact
    must, may = with_inspections((EVENTS[0].fact, due), (ORDER,))
    assert (must, may) == ([EVENTS[0].fact, DONE.fact], [due])
    must, may = with_inspections((EVENTS[0].fact, due), (replace(ORDER, command_id=None),))
    assert (must, may) == ([EVENTS[0].fact], [due, DONE.fact])


def test_nothing_is_compared_with_nothing() -> None:
    assert compare(HERS, Observed()).counts()["lost"] > 0
