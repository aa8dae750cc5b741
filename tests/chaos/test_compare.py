"""The checker is shown to fail: a run in which all is well, and one doctored observation for each thing it looks at."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from msgspec.structs import replace

from telemetry_svc import topics
from telemetry_svc.simulate.truth import Fact
from tests.chaos.compare import NAMESPACE, compare, missing_parts
from tests.chaos.records import (
    Change,
    CommandRow,
    EventRow,
    Figures,
    HistoryRow,
    Hours,
    Journal,
    Lease,
    Letter,
    Logged,
    Observed,
    Order,
    PingKey,
    Sent,
    Settlement,
    Task,
    Told,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MACHINE = "ZE215-000017"
OTHER = "ZE215-000018"
Doctor = Callable[[Journal, Observed], tuple[Journal, Observed]]


def key(minute: int, meter_ch: int) -> PingKey:
    return (MACHINE, NOON + timedelta(minutes=minute), meter_ch, True, minute)


def event(stage: str, minute: int, priority: int | None, id_: UUID | None = None) -> EventRow:
    fact = Fact(MACHINE, "inspection", "250", stage, NOON + timedelta(minutes=minute))
    return EventRow(id_ or uuid5(NAMESPACE, "|".join(fact[:4])), fact, topics.MAINTENANCE_DUE, priority)


KEYS = (key(0, 24_999), key(1, 25_000), key(2, 30_000))
EVENTS = (event("due", 1, 6), event("overdue", 2, 5))
SHOWN = UUID("e59ca73e-d80d-5236-a163-2bc15288643e")
"""The contract's test vector for the first of them."""

JOURNAL = Journal(
    sent=(
        *(Sent(f"d{place}", one, acknowledged=True) for place, one in enumerate(KEYS)),
        Sent("d0", KEYS[0], acknowledged=True),
        Sent("bad", error_class="malformed", acknowledged=True),
        Sent("cut off", key(3, 30_001)),
    ),
    must=tuple(one.fact for one in EVENTS),
    machines={MACHINE: Hours(KEYS[2][1], 30_000)},
    leases=(
        Lease("task", "a", NOON, NOON + timedelta(seconds=3)),
        Lease("task", "b", NOON + timedelta(seconds=3), NOON + timedelta(seconds=6)),
        Lease("another", "c", NOON, NOON + timedelta(seconds=9)),
    ),
    settlements=(Settlement("old", frozenset({EVENTS[0].id}), NOON),),
)
LETTER = Letter(topics.PINGS, (4, 13), "malformed")
OTHER_CLASS = replace(LETTER, error_class="internal")
WELL = Observed(
    log=(
        Logged((4, 10), "d0"),
        Logged((4, 11), "d0"),
        Logged((4, 12), "d1"),
        Logged((4, 13), "bad"),
        Logged((4, 14), "d2"),
    ),
    history=tuple(HistoryRow(one, (4, offset), offset - 5) for one, offset in zip(KEYS, (10, 12, 14), strict=True)),
    events=EVENTS,
    alerts=tuple(Told(topics.MAINTENANCE_DUE, MACHINE, EVENTS[place].id) for place in (0, 0, 1)),
    letters=(LETTER,),
    letter_records=(LETTER, LETTER),
    states={MACHINE: Hours(KEYS[2][1], 30_000)},
    tasks=(
        Task(MACHINE, "old", "completed", 6, frozenset()),
        Task(MACHINE, "task", "pending", 5, frozenset({EVENTS[1].id})),
    ),
    changes=tuple(Change(MACHINE, "task", state) for state in ("pending", "claimed", "pending")),
    calls=tuple(
        Change(MACHINE, "task", state, id_)
        for state, id_ in (("pending", "1"), ("claimed", "2"), ("claimed", "2"), ("pending", "3"))
    ),
    commands=(CommandRow(MACHINE, "registration", "r", "applied"),),
    settled=frozenset({EVENTS[0].id}),
    outcomes=("old",),
)


def seen(**changed: Any) -> Doctor:
    return lambda journal, observed: (journal, replace(observed, **changed))


def promised(**changed: Any) -> Doctor:
    return lambda journal, observed: (replace(journal, **changed), observed)


def both(expected: dict[str, Any], **changed: Any) -> Doctor:
    return lambda journal, observed: (replace(journal, **expected), replace(observed, **changed))


FOREIGN = UUID("00000000-0000-4000-8000-000000000000")
LATER = Hours(KEYS[2][1], 30_001)
EARLIER = Hours(KEYS[1][1], 25_000)
NOT_TRUE_FACT = Fact(MACHINE, "inspection", "500", "due", NOON)
NOT_TRUE = EventRow(uuid5(NAMESPACE, "|".join(NOT_TRUE_FACT[:4])), NOT_TRUE_FACT, topics.MAINTENANCE_DUE)
DOCTORED: dict[str, tuple[Doctor, dict[str, int]]] = {
    "an acknowledged record is not in the log": (
        seen(log=WELL.log[:4], history=WELL.history[:2]),
        {"lost": 1},
    ),
    "a record in the log that nobody sent": (seen(log=(*WELL.log, Logged((4, 15), "whose"))), {"phantom": 1}),
    "a cut-off record got through and has no effect": (seen(log=(*WELL.log, Logged((4, 15), "cut off"))), {"lost": 1}),
    "a gap of offsets": (seen(gaps=("excavator.pings 4: 10 to 12",)), {"lost": 1}),
    "a ping without a row": (seen(history=WELL.history[1:]), {"lost": 1}),
    "a ping with two rows": (
        seen(history=(*WELL.history, replace(WELL.history[0], apply_seq=99, position=(5, 10)))),
        {"duplicated": 1, "reordered": 1},
    ),
    "a row for what was never sent": (
        seen(history=(*WELL.history, HistoryRow(key(9, 1), (4, 15), 10))),
        {"phantom": 1},
    ),
    "a repeat was stored in the place of the first": (
        seen(history=(replace(WELL.history[0], position=(4, 11)), *WELL.history[1:])),
        {"reordered": 1},
    ),
    "two pings at one place of the order": (
        seen(history=(WELL.history[0], replace(WELL.history[1], apply_seq=5), WELL.history[2])),
        {"duplicated": 1},
    ),
    "applied in another order than sent": (
        seen(
            history=(
                replace(WELL.history[0], apply_seq=7),
                replace(WELL.history[1], apply_seq=5),
                WELL.history[2],
            )
        ),
        {"reordered": 1},
    ),
    "a bad record without its dead letter": (seen(letters=(), letter_records=()), {"lost": 1}),
    "a dead letter of a good record": (
        seen(
            letters=(LETTER, Letter(topics.PINGS, (4, 10), "internal")),
            letter_records=(LETTER, Letter(topics.PINGS, (4, 10), "internal")),
        ),
        {"phantom": 1},
    ),
    "a dead letter of another class": (
        seen(
            letters=(replace(LETTER, error_class="internal"),),
            letter_records=(replace(LETTER, error_class="internal"),),
        ),
        {"lost": 1, "phantom": 1},
    ),
    "a dead letter that nobody is told": (seen(letter_records=()), {"lost": 1}),
    "a dead letter that is told only": (
        seen(letter_records=(LETTER, Letter(topics.PINGS, (4, 12), "invalid"))),
        {"phantom": 1},
    ),
    "a fact that was not raised": (
        both(
            {"settlements": ()},
            events=EVENTS[:1],
            alerts=WELL.alerts[:2],
            tasks=(Task(MACHINE, "task", "pending", 6, frozenset({EVENTS[0].id})),),
            settled=frozenset(),
            outcomes=(),
        ),
        {"lost": 1},
    ),
    "a fact that is not true": (
        seen(events=(*EVENTS, NOT_TRUE), alerts=(*WELL.alerts, Told(NOT_TRUE.topic, MACHINE, NOT_TRUE.id))),
        {"phantom": 1},
    ),
    "a fact at another time": (seen(events=(event("due", 2, 6), EVENTS[1])), {"phantom": 1}),
    "a fact twice, once under a foreign id": (
        seen(
            events=(event("due", 1, 6, FOREIGN), *EVENTS),
            alerts=(Told(topics.MAINTENANCE_DUE, MACHINE, FOREIGN), *WELL.alerts),
        ),
        {"duplicated": 1, "phantom": 1},
    ),
    "an alert that was never sent": (seen(alerts=WELL.alerts[:2]), {"lost": 1}),
    "an alert of no fact": (
        seen(alerts=(*WELL.alerts, Told(topics.MAINTENANCE_DUE, MACHINE, FOREIGN))),
        {"phantom": 1},
    ),
    "an alert on the other topic": (
        seen(alerts=(*WELL.alerts[:2], replace(WELL.alerts[2], topic=topics.ANOMALY))),
        {"lost": 1, "phantom": 1},
    ),
    "alerts in another order": (seen(alerts=WELL.alerts[::-1]), {"reordered": 1}),
    "a machine without a state": (seen(states={}), {"lost": 1}),
    "a state that stayed behind": (seen(states={MACHINE: EARLIER}), {"lost": 1}),
    "a state that ran ahead": (seen(states={MACHINE: LATER}), {"phantom": 1}),
    "a state of a machine that does not exist": (seen(states={**WELL.states, OTHER: LATER}), {"phantom": 1}),
    "no call": (seen(tasks=WELL.tasks[:1]), {"lost": 1}),
    "a call about what is over": (
        both(
            {"settlements": ()},
            tasks=(replace(WELL.tasks[1], reasons=frozenset({EVENTS[0].id, EVENTS[1].id})),),
            settled=frozenset(),
            outcomes=(),
        ),
        {"phantom": 1},
    ),
    "a call of too little urgency": (seen(tasks=(WELL.tasks[0], replace(WELL.tasks[1], priority=6))), {"phantom": 1}),
    "two open calls of one machine": (
        seen(tasks=(*WELL.tasks, replace(WELL.tasks[1], task_id="two", reasons=frozenset(), priority=5))),
        {"duplicated": 1},
    ),
    "one alert is a reason in two calls": (
        seen(tasks=(*WELL.tasks, replace(WELL.tasks[1], task_id="two"))),
        {"duplicated": 2},
    ),
    "a call of a machine about which nothing is known": (
        seen(tasks=(*WELL.tasks, Task(OTHER, "two", "pending", 5, frozenset()))),
        {"phantom": 1},
    ),
    "a change of a call that nobody is told": (seen(calls=WELL.calls[:3]), {"lost": 1}),
    "a change of a call told twice, as two": (
        seen(calls=(*WELL.calls, replace(WELL.calls[-1], id="4"))),
        {"duplicated": 1},
    ),
    "changes of a call in another order": (
        seen(calls=(WELL.calls[1], WELL.calls[0], WELL.calls[3])),
        {"reordered": 1},
    ),
    "something is not final": (seen(stuck=("3 rows of the outbox are not sent",)), {"stuck": 1}),
    "a task is leased to two at once": (
        promised(
            leases=(*JOURNAL.leases, Lease("task", "d", NOON + timedelta(seconds=5), NOON + timedelta(seconds=9)))
        ),
        {"double_leased": 1},
    ),
}


def test_the_ids_are_those_of_the_contract() -> None:
    assert EVENTS[0].id == SHOWN


def test_a_run_in_which_all_is_well_has_no_findings() -> None:
    """Repeats on the wire and a record that was cut off before the broker had it are none."""
    figures = compare(JOURNAL, WELL)
    assert figures == Figures()
    assert figures.clean


def test_a_fact_that_the_calendar_may_have_brought_is_none_that_must_be_there() -> None:
    assert compare(replace(JOURNAL, must=(EVENTS[0].fact,), may=(EVENTS[1].fact,)), WELL).clean


def test_a_part_that_did_nothing_is_named() -> None:
    there = replace(WELL, slots=1)
    busy = replace(JOURNAL, orders=(Order(MACHINE, 500, NOON),), late=frozenset({MACHINE}))
    assert missing_parts(busy, there) == ()
    assert missing_parts(replace(busy, leases=()), replace(there, letters=())) == ("bad records", "leases")
    assert missing_parts(JOURNAL, there) == ("inspections reported", "machines registered late")
    assert len(missing_parts(Journal(()), Observed())) == 11


@pytest.mark.parametrize(("doctor", "expected"), DOCTORED.values(), ids=DOCTORED.keys())
def test_each_wrong_is_seen_and_named(doctor: Doctor, expected: dict[str, int]) -> None:
    figures = compare(*doctor(JOURNAL, WELL))
    assert {name: count for name, count in figures.counts().items() if count} == expected
    assert not figures.clean


def test_every_figure_has_been_made_other_than_zero() -> None:
    assert {name for _, expected in DOCTORED.values() for name in expected} == set(Figures().counts())
