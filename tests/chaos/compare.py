"""The checker: what was sent and what is true, held against what came out. Pure; knows no server and no rule.

Each check looks at one thing and yields (figure, finding). *Lost*: its effect is missing; *duplicated*: two effects of
one cause; *reordered*: first occurrences out of order; *phantom*: an effect without a cause, a wrong one included;
*stuck*: not final after the drain; *double_leased*: two claimers held one task at once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, TypeVar
from uuid import UUID, uuid5

from telemetry_svc import topics
from telemetry_svc.simulate.truth import Fact
from tests.chaos.records import Change, EventRow, Figures, Hours, Journal, Lease, Observed, PingKey, Position

NAMESPACE = UUID("6f1d2c4e-8a53-5b7e-9c0d-3e2a7b4f1d60")
UNJUDGED_RULES = {"checkup", "sensor", "position", "silence", "storm"}
"""The truth says nothing of these; *upcoming* may also come of the service's own forecast."""

Figure = Literal["lost", "duplicated", "reordered", "phantom", "stuck", "double_leased"]
Finding = tuple[Figure, str]
Check = Callable[[Journal, Observed], Iterable[Finding]]
_Item = TypeVar("_Item", bound=Hashable)


def compare(journal: Journal, observed: Observed) -> Figures:
    """Everything that is wrong, by figure."""
    found: dict[str, list[str]] = {name: [] for name in Figures.__struct_fields__}
    for check in CHECKS:
        for figure, finding in check(journal, observed):
            found[figure].append(finding)
    return Figures(**{name: tuple(findings) for name, findings in found.items()})


def missing_parts(journal: Journal, observed: Observed) -> tuple[str, ...]:
    """Parts that did nothing: a run without them has compared nothing of theirs and must not pass."""
    parts = {
        "pings": len(observed.history),
        "bad records": len(observed.letters),
        "facts that must be there": len(journal.must),
        "alerts": len(observed.alerts),
        "open calls": len([task for task in observed.tasks if task.reasons]),
        "changes of calls": len(observed.calls),
        "leases": len(journal.leases),
        "slots of the scheduler": observed.slots,
    }
    return tuple(name for name, count in parts.items() if not count)


def broker_log(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """What was acknowledged is in the broker's log, and nothing else but what was at least sent."""
    logged = {one.digest for one in observed.log}
    sent = {one.digest for one in journal.sent}
    for one in journal.sent:
        if one.acknowledged and one.digest not in logged:
            yield "lost", f"acknowledged, but not in the broker's log: {one.key or one.digest}"
    for digest in logged - sent:
        yield "phantom", f"in the broker's log, but never sent: {digest}"
    for gap in observed.gaps:
        yield "lost", f"skipped: {gap}"


def history(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """Each ping of the log has one row, that of its first occurrence."""
    first = _first_occurrences(journal, observed)
    rows = Counter(row.key for row in observed.history)
    for key in first.keys() - rows.keys():
        yield "lost", f"no row for ping {_shown(key)}"
    for key, count in rows.items():
        if key not in first:
            yield "phantom", f"a row for a ping that was never sent: {_shown(key)}"
        if count > 1:
            yield "duplicated", f"{count} rows for ping {_shown(key)}"
    for row in observed.history:
        if row.key in first and row.position != first[row.key]:
            yield "reordered", f"{_shown(row.key)} came first at {first[row.key]}, stored was that of {row.position}"


def apply_order(_: Journal, observed: Observed) -> Iterator[Finding]:
    """The pings of a partition were decided in the order of their offsets, each at a place of its own."""
    by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row in observed.history:
        by_partition[row.position[0]].append((row.apply_seq, row.position[1]))
    for partition, places in by_partition.items():
        for (seq, offset), (next_seq, next_offset) in pairwise(sorted(places)):
            if seq == next_seq:
                yield "duplicated", f"partition {partition}: two pings were applied as number {seq}"
            elif offset >= next_offset:
                yield "reordered", f"partition {partition}: offset {next_offset} was applied after {offset}"


def dead_letters(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """Each bad record is one dead letter of its class, in the table and on the topic; nothing else is."""
    classes = {one.digest: one.error_class for one in journal.sent if one.error_class}
    expected = {(topics.PINGS, one.position, classes[one.digest]) for one in observed.log if one.digest in classes}
    rows = {(one.topic, one.position, one.error_class) for one in observed.letters}
    records = {(one.topic, one.position, one.error_class) for one in observed.letter_records}
    yield from (("lost", f"no dead letter for {one}") for one in expected - rows)
    yield from (("phantom", f"a dead letter of a good record: {one}") for one in rows - expected)
    yield from (("lost", f"a dead letter that is not on the topic: {one}") for one in rows - records)
    yield from (("phantom", f"a dead letter on the topic only: {one}") for one in records - rows)


def events(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """The facts that are true, each once, at its time and under its own id; and none that is not."""
    may = {fact[:4]: fact.time for fact in (*journal.may, *journal.must)}
    rows = Counter(row.fact[:4] for row in observed.events)
    for fact in journal.must:
        if fact[:4] not in rows:
            yield "lost", f"not raised: {'|'.join(fact[:4])}"
    yield from (("duplicated", f"raised {count} times: {'|'.join(key)}") for key, count in rows.items() if count > 1)
    for row in observed.events:
        name = "|".join(row.fact[:4])
        if row.id != uuid5(NAMESPACE, name):
            yield "phantom", f"{name} under a foreign id {row.id}"
        if row.fact[:4] not in may:
            if _is_judged(row.fact):
                yield "phantom", f"raised, but not true: {name}"
        elif may[row.fact[:4]] not in {None, row.fact.time}:
            yield "phantom", f"{name} at {row.fact.time} instead of {may[row.fact[:4]]}"


def alerts(_: Journal, observed: Observed) -> Iterator[Finding]:
    """Each fact is on its topic, nothing else is; per machine the first occurrences have the order of the rows."""
    decided: dict[tuple[str, str], list[UUID]] = defaultdict(list)
    told: dict[tuple[str, str], list[UUID]] = defaultdict(list)
    for row in observed.events:
        decided[row.topic, row.fact.machine_id].append(row.id)
    for record in observed.alerts:
        told[record.topic, record.machine_id].append(record.id)
    for where in decided.keys() | told.keys():
        yield from _same_story(decided[where], list(dict.fromkeys(told[where])), f"alerts of {where[1]} on {where[0]}")


def states(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """What is remembered of each machine is what all its readings leave behind."""
    for machine_id, expected in journal.machines.items():
        found = observed.states.get(machine_id)
        if found is None:
            yield "lost", f"no state of {machine_id}"
        elif found != expected:
            yield ("lost" if _is_behind(found, expected) else "phantom"), f"{machine_id}: {found}, not {expected}"
    yield from (("phantom", f"a state of {one}") for one in observed.states.keys() - journal.machines.keys())


def tasks(_: Journal, observed: Observed) -> Iterator[Finding]:
    """Each machine has one open task about all that is open and to be called about; no alert is a reason twice."""
    open_tasks = [task for task in observed.tasks if task.state not in {"completed", "cancelled"}]
    reasons = Counter(reason for task in open_tasks for reason in task.reasons)
    yield from (("duplicated", f"alert {one} is a reason {n} times") for one, n in reasons.items() if n > 1)
    machines = Counter(task.machine_id for task in open_tasks)
    yield from (("duplicated", f"{n} open tasks of {one}") for one, n in machines.items() if n > 1)
    expected = _matters(observed.events)
    for machine_id, matters in expected.items():
        of_machine = [task for task in open_tasks if task.machine_id == machine_id]
        have = {reason for task in of_machine for reason in task.reasons}
        yield from (("lost", f"no call of {machine_id} about {one}") for one in matters.keys() - have)
        yield from (("phantom", f"a call of {machine_id} about {one}") for one in have - matters.keys())
        for task in of_machine:
            if task.reasons == matters.keys() and task.priority != min(matters.values()):
                yield "phantom", f"task {task.task_id} has priority {task.priority}"
    yield from (("phantom", f"a task of {one}") for one in machines.keys() - expected.keys())


def calls(_: Journal, observed: Observed) -> Iterator[Finding]:
    """Each change of a task is on the topic once, in the order of the history."""
    kept, told = _by_task(observed.changes), _by_task({change.id: change for change in observed.calls}.values())
    for task_id in kept.keys() | told.keys():
        yield from _same_count(kept.get(task_id, []), told.get(task_id, []), f"changes of task {task_id}")


def stuck(_: Journal, observed: Observed) -> Iterator[Finding]:
    yield from (("stuck", line) for line in observed.stuck)


def leases(journal: Journal, _: Observed) -> Iterator[Finding]:
    """No claimer was given a task while another surely held it."""
    held: Lease | None = None
    for lease in sorted(journal.leases, key=lambda one: (one.task_id, one.since)):
        if held is None or held.task_id != lease.task_id:
            held = lease
            continue
        if lease.token != held.token and lease.since < held.until:
            yield "double_leased", f"task {held.task_id}: until {held.until}, and again since {lease.since}"
        held = max(held, lease, key=lambda one: one.until)


CHECKS: tuple[Check, ...] = (
    broker_log,
    history,
    apply_order,
    dead_letters,
    events,
    alerts,
    states,
    tasks,
    calls,
    stuck,
    leases,
)


def _first_occurrences(journal: Journal, observed: Observed) -> dict[PingKey, Position]:
    keys = {one.digest: one.key for one in journal.sent if one.key is not None}
    first: dict[PingKey, Position] = {}
    for one in sorted(observed.log, key=lambda logged: logged.position):
        if one.digest in keys:
            first.setdefault(keys[one.digest], one.position)
    return first


def _is_judged(fact: Fact) -> bool:
    return fact.rule not in UNJUDGED_RULES and fact.stage != "upcoming"


def _is_behind(found: Hours, expected: Hours) -> bool:
    return found.newest < expected.newest or (found.true_ch or 0) < (expected.true_ch or 0)


def _matters(rows: Sequence[EventRow]) -> Mapping[str, dict[UUID, int]]:
    """Machine → what its open task must be about, alert → priority: the latest stage of each subject not cleared."""
    latest: dict[tuple[str, str, str], tuple[UUID, int]] = {}
    for row in rows:
        subject = row.fact[:3]
        if row.fact.stage == "cleared":
            latest.pop(subject, None)
        elif row.priority is not None:
            latest[subject] = (row.id, row.priority)
    matters: dict[str, dict[UUID, int]] = defaultdict(dict)
    for (machine_id, _, _), (alert_id, priority) in latest.items():
        matters[machine_id][alert_id] = priority
    return matters


def _by_task(changes: Iterable[Change]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        grouped[change.task_id].append(change.state)
    return grouped


def _same_story(kept: Sequence[_Item], told: Sequence[_Item], what: str) -> Iterator[Finding]:
    """Two orders of the same things."""
    yield from (("lost", f"{what}: {one}") for one in set(kept) - set(told))
    yield from (("phantom", f"{what}: {one}") for one in set(told) - set(kept))
    both = set(kept) & set(told)
    before, after = ([one for one in dict.fromkeys(side) if one in both] for side in (kept, told))
    if before != after:
        yield "reordered", f"{what}: {before} became {after}"


def _same_count(kept: Sequence[str], told: Sequence[str], what: str) -> Iterator[Finding]:
    """Two orders of things that may be alike."""
    if Counter(kept) - Counter(told):
        yield "lost", f"{what}: {kept}, but told {told}"
    if Counter(told) - Counter(kept):
        yield "duplicated", f"{what}: {kept}, but told {told}"
    if Counter(kept) == Counter(told) and kept != told:
        yield "reordered", f"{what}: {kept}, but told {told}"


def _shown(key: PingKey) -> str:
    return f"{key[0]} of {key[1]:%FT%T.%fZ}"
