"""The part of the checker that looks at calls: what is open, who held it, and what was said to be done. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from uuid import UUID

from tests.chaos.records import Change, EventRow, Finding, Journal, Lease, Observed


def tasks(_: Journal, observed: Observed) -> Iterator[Finding]:
    """Each machine has one open task about all that is open and to be called about, but not what somebody has called
    about; no alert is a reason twice.
    """
    open_tasks = [task for task in observed.tasks if task.state not in {"completed", "cancelled"}]
    reasons = Counter(reason for task in open_tasks for reason in task.reasons)
    yield from (("duplicated", f"alert {one} is a reason {n} times") for one, n in reasons.items() if n > 1)
    machines = Counter(task.machine_id for task in open_tasks)
    yield from (("duplicated", f"{n} open tasks of {one}") for one, n in machines.items() if n > 1)
    expected = _matters(observed.events, observed.settled)
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


def settlements(journal: Journal, observed: Observed) -> Iterator[Finding]:
    """What somebody surely called about is settled, once, and nobody is told to call about it again."""
    said: dict[str, set[UUID]] = defaultdict(set)
    for one in journal.settlements:
        said[one.task_id] |= one.reasons
    states = {task.task_id: task.state for task in observed.tasks}
    for one in journal.settlements:
        if one.at is not None and states.get(one.task_id) != "completed":
            yield "lost", f"settled by {one.at}, but {states.get(one.task_id)}: task {one.task_id}"
    for task in observed.tasks:
        if task.state == "completed" and task.task_id not in said:
            yield "phantom", f"completed, but nobody said so: task {task.task_id}"
        for reason in task.reasons & observed.settled:
            yield "duplicated", f"settled, and a reason again in task {task.task_id}: {reason}"
    for reason in observed.settled - {reason for reasons in said.values() for reason in reasons}:
        yield "phantom", f"settled, but nobody called about it: {reason}"
    for task_id, count in Counter(observed.outcomes).items():
        if count > 1:
            yield "duplicated", f"{count} outcomes of task {task_id}"
    yield from _offered_again(journal)


def _offered_again(journal: Journal) -> Iterator[Finding]:
    settled = [(one.at, one.task_id, one.reasons) for one in journal.settlements if one.at is not None]
    for at, task_id, reasons in settled:
        for lease in journal.leases:
            if lease.since > at and (lease.task_id == task_id or lease.reasons & reasons):
                yield "duplicated", f"settled at {at}, offered again at {lease.since}: task {task_id}"


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


def _matters(rows: Sequence[EventRow], settled: Set[UUID]) -> Mapping[str, dict[UUID, int]]:
    """Machine → what its open task must be about, alert → priority: the latest stage of each subject not over."""
    latest: dict[tuple[str, str, str], tuple[UUID, int]] = {}
    for row in rows:
        subject = row.fact[:3]
        if row.fact.stage in {"cleared", "completed", "superseded"}:
            latest.pop(subject, None)
        elif row.priority is not None:
            latest[subject] = (row.id, row.priority)
    matters: dict[str, dict[UUID, int]] = defaultdict(dict)
    for (machine_id, _, _), (alert_id, priority) in latest.items():
        if alert_id not in settled:
            matters[machine_id][alert_id] = priority
    return matters


def _by_task(changes: Iterable[Change]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        grouped[change.task_id].append(change.state)
    return grouped


def _same_count(kept: Sequence[str], told: Sequence[str], what: str) -> Iterator[Finding]:
    """Two orders of things that may be alike."""
    if Counter(kept) - Counter(told):
        yield "lost", f"{what}: {kept}, but told {told}"
    if Counter(told) - Counter(kept):
        yield "duplicated", f"{what}: {kept}, but told {told}"
    if Counter(kept) == Counter(told) and kept != told:
        yield "reordered", f"{what}: {kept}, but told {told}"
