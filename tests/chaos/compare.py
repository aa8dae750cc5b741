"""The checker: what was sent and what is true, held against what came out. Pure; knows no server and no rule.

Each check looks at one thing and yields (figure, finding). *Lost*: its effect is missing; *duplicated*: two effects of
one cause; *reordered*: first occurrences out of order; *phantom*: an effect without a cause, a wrong one included;
*stuck*: not final after the drain; *double_leased*: two claimers held one task at once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar
from uuid import UUID, uuid5

from telemetry_svc import topics
from telemetry_svc.simulate.truth import Fact
from tests.chaos.compare_calls import calls, leases, settlements, tasks
from tests.chaos.records import CommandRow, Figures, Finding, Hours, Journal, Letter, Observed, PingKey, Position

NAMESPACE = UUID("6f1d2c4e-8a53-5b7e-9c0d-3e2a7b4f1d60")
UNJUDGED_RULES = {"checkup", "sensor", "position", "silence", "storm"}
"""The truth says nothing of these; *upcoming* may also come of the service's own forecast."""

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
        "settled calls": len(observed.settled),
        "inspections reported": len(journal.orders),
        "machines registered late": len(journal.late & observed.states.keys()),
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
    """The pings of a partition were decided in the order of their offsets, each at a place of its own.

    Save those that waited for the registration of their machine.
    """
    waited = {one.position for one in observed.letters}
    by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row in observed.history:
        if row.position in waited:
            continue
        by_partition[row.position[0]].append((row.apply_seq, row.position[1]))
    for partition, places in by_partition.items():
        for (seq, offset), (next_seq, next_offset) in pairwise(sorted(places)):
            if seq == next_seq:
                yield "duplicated", f"partition {partition}: two pings were applied as number {seq}"
            elif offset >= next_offset:
                yield "reordered", f"partition {partition}: offset {next_offset} was applied after {offset}"


def dead_letters(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """Each bad record is one dead letter of its class, in the table and on the topic; nothing else is.

    The ping of a machine that is registered late may have been one, and must have been taken up.
    """
    classes = {one.digest: one.error_class for one in journal.sent if one.error_class}
    expected = {(topics.PINGS, one.position, classes[one.digest]) for one in observed.log if one.digest in classes}
    early = _too_early(journal, observed)
    for one in early:
        if one.taken_up not in {"replayed", "repeated"}:
            yield "lost", f"a ping that waits for its machine's registration ({one.taken_up}): {one.position}"
    expected |= {_letter(one) for one in early}
    rows = {_letter(one) for one in observed.letters}
    records = {_letter(one) for one in observed.letter_records}
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


def remembers(_: Journal, observed: Observed) -> Iterator[Finding]:
    """A state says of each milestone and each fault code what the facts say: neither may be set back without the other.

    In a storm faults open without a fact, so a machine that had one is left out.
    """
    stormy = {row.fact.machine_id for row in observed.events if row.fact.rule == "storm"}
    milestones: dict[str, dict[str, str]] = defaultdict(dict)
    faults: dict[str, set[str]] = defaultdict(set)
    for row in observed.events:
        if row.fact.rule == "inspection":
            milestones[row.fact.machine_id][row.fact.subject] = row.fact.stage
        elif row.fact.rule == "fault":
            still = faults[row.fact.machine_id]
            (still.discard if row.fact.stage == "cleared" else still.add)(row.fact.subject)
    for machine_id in observed.remembered.keys() - stormy:
        found = observed.remembered[machine_id]
        if dict(found.milestones) != milestones[machine_id]:
            yield "phantom", f"{machine_id} remembers {dict(found.milestones)}, raised was {milestones[machine_id]}"
        if found.faults != faults[machine_id]:
            yield "phantom", f"{machine_id} remembers faults {set(found.faults)}, open are {faults[machine_id]}"


def commands(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """Each machine is registered by one command; of the attempts to report an inspection exactly one is applied."""
    of: dict[tuple[str, str], list[CommandRow]] = defaultdict(list)
    for row in observed.commands:
        of[row.machine_id, row.kind].append(row)
    for machine_id in journal.machines:
        yield from _once([row.status for row in of[machine_id, "registration"]], 1, f"registration of {machine_id}")
    for order in journal.orders:
        rows = of.pop((order.machine_id, "inspection_done"), [])
        known = order.command_id is not None
        if known and order.command_id not in {row.command_id for row in rows}:
            yield "lost", f"acknowledged, but not there: inspection of {order.machine_id}, command {order.command_id}"
        if rows or known:
            yield from _once([row.status for row in rows], order.attempts, f"inspection of {order.machine_id}")
    for machine_id, kind in of:
        if kind != "registration" or machine_id not in journal.machines:
            yield "phantom", f"a command {kind} of {machine_id} that nobody gave"


def silent_after_completion(_: Journal, observed: Observed) -> Iterator[Finding]:
    """Nothing is said of an inspection any more once it was done."""
    done: set[tuple[str, str]] = set()
    for row in observed.events:
        subject = (row.fact.machine_id, row.fact.subject)
        if row.fact.rule == "inspection" and subject in done:
            yield "phantom", f"raised after it was completed: {'|'.join(row.fact[:4])}"
        if row.fact.rule == "inspection" and row.fact.stage == "completed":
            done.add(subject)


def stuck(_: Journal, observed: Observed) -> Iterator[Finding]:
    yield from (("stuck", line) for line in observed.stuck)


CHECKS: tuple[Check, ...] = (
    broker_log,
    history,
    apply_order,
    dead_letters,
    events,
    alerts,
    states,
    remembers,
    commands,
    silent_after_completion,
    tasks,
    calls,
    settlements,
    leases,
    stuck,
)


def _too_early(journal: Journal, observed: Observed) -> list[Letter]:
    """Dead letters of good pings of machines that were not known yet."""
    keys = {one.digest: one.key for one in journal.sent if one.key is not None}
    late = {one.position for one in observed.log if one.digest in keys and keys[one.digest][0] in journal.late}
    return [
        one
        for one in observed.letters
        if one.topic == topics.PINGS and one.error_class == "unknown_machine" and one.position in late
    ]


def _letter(one: Letter) -> tuple[str, Position, str]:
    return one.topic, one.position, one.error_class


def _once(statuses: Sequence[str], attempts: int, what: str) -> Iterator[Finding]:
    """One of the attempts is applied, the others are refused."""
    applied = statuses.count("applied")
    if applied == 0:
        yield "lost", f"{what} has no effect: {list(statuses)}"
    if applied > 1 or len(statuses) > attempts:
        yield "duplicated", f"{what}: {list(statuses)} of {attempts} attempts"


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


def _same_story(kept: Sequence[_Item], told: Sequence[_Item], what: str) -> Iterator[Finding]:
    """Two orders of the same things."""
    yield from (("lost", f"{what}: {one}") for one in set(kept) - set(told))
    yield from (("phantom", f"{what}: {one}") for one in set(told) - set(kept))
    both = set(kept) & set(told)
    before, after = ([one for one in dict.fromkeys(side) if one in both] for side in (kept, told))
    if before != after:
        yield "reordered", f"{what}: {before} became {after}"


def _shown(key: PingKey) -> str:
    return f"{key[0]} of {key[1]:%FT%T.%fZ}"
