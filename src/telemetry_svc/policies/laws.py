"""What must hold between the values of a policy file (issue: bracket gaps and overlaps, ladders that fall, unknown
SPNs).

Each law yields (path, reason) for everything it finds, so that `policy check` reports every fault of a file at
once.
"""

from collections.abc import Iterator, Sequence
from math import inf

from telemetry_svc.policies.clauses import TonnageBracket
from telemetry_svc.policies.document import Document

Path = tuple[str | int, ...]
Faults = Iterator[tuple[Path, str]]


def broken(document: Document, known_spns: frozenset[int]) -> Faults:
    """Every broken law of one file."""
    clauses = document.clauses
    for name, key, rows in (
        ("W1", "brackets", clauses.W1.brackets),
        ("W2", "brackets", clauses.W2.brackets),
        ("I2", "free", clauses.I2.free),
        ("C1", "brackets", clauses.C1.brackets),
    ):
        yield from _brackets(("clauses", name, key), rows)
    yield from _ladders(document)
    yield from _spns(document, known_spns)
    yield from _outcomes(document)
    yield from _hysteresis(document)
    yield from _windows(document)
    yield from _expiring(document)
    if document.in_force.until is not None and document.in_force.until <= document.in_force.from_:
        yield ("in_force", "until"), "the edition ends before it begins"


def _brackets(path: Path, rows: Sequence[TonnageBracket]) -> Faults:
    reached: float | None = 0
    for index, row in enumerate(rows):
        if reached is None:
            yield (*path, index), "a bracket follows the one without an upper end"
            return
        if row.from_t != reached:
            kind = "a gap" if row.from_t > reached else "an overlap"
            yield (
                (*path, index, "from_t"),
                f"{kind} between {min(reached, row.from_t):g} t and {max(reached, row.from_t):g} t",
            )
        if row.below_t is not None and row.below_t <= row.from_t:
            yield (*path, index, "below_t"), f"the bracket from {row.from_t:g} t is empty"
        reached = row.below_t
    if reached is not None:
        yield (*path, len(rows) - 1, "below_t"), f"no bracket from {reached:g} t on"


def _ladders(document: Document) -> Faults:
    clauses, queue = document.clauses, document.call_queue
    yield from _rising(("clauses", "I1", "milestones_h"), clauses.I1.milestones_h, strictly=True)
    yield from _rising(("call_queue", "rank_offset_h"), queue.rank_offset_h)
    yield from _rising(("clauses", "C1", "brackets"), [row.per_day_yuan for row in clauses.C1.brackets])
    yield from _rising(("clauses", "W1", "brackets"), [row.limit_ch or 0 for row in clauses.W1.brackets])
    yield from _rising(("clauses", "W2", "brackets"), [row.limit_ch or 0 for row in clauses.W2.brackets])
    if queue.route_anyone_after_s < queue.route_team_after_s:
        yield ("call_queue", "route_anyone_after"), "anyone comes before the team"
    if queue.urgent_route_anyone_after_s < queue.urgent_route_team_after_s:
        yield ("call_queue", "urgent_route_anyone_after"), "anyone comes before the team"
    if queue.lease_default_s > queue.lease_max_s:
        yield ("call_queue", "lease_default"), "the default lease is longer than the longest"


def _rising(path: Path, values: Sequence[float], *, strictly: bool = False) -> Faults:
    for index in range(1, len(values)):
        before, value = values[index - 1], values[index]
        if value < before or (strictly and value == before):
            yield (*path, index), f"the ladder falls: {value:g} after {before:g}"


def _windows(document: Document) -> Faults:
    """Windows of a day follow each other."""
    queue = document.call_queue
    for name, windows in (("workday_windows", queue.workday_windows), ("holiday_windows", queue.holiday_windows)):
        for index, one in enumerate(windows):
            path: Path = ("call_queue", name, index)
            if one.to <= one.from_:
                yield path, f"the window from {one.from_} ends before it begins"
            if index and one.from_ < windows[index - 1].to:
                yield path, f"the window from {one.from_} begins before the one before it ends"


def _expiring(document: Document) -> Faults:
    """A warranty is not about to end from its first hour on."""
    for name, clause in (("W1", document.clauses.W1), ("W2", document.clauses.W2)):
        shortest_ch = min((row.limit_ch for row in clause.brackets if row.limit_ch is not None), default=None)
        if shortest_ch is not None and clause.expiring_before_ch >= shortest_ch:
            yield ("clauses", name, "expiring_before_h"), "announces the end before the cover begins"


def _spns(document: Document, known_spns: frozenset[int]) -> Faults:
    block = document.anomalies.fault_code
    path: Path = ("anomalies", "fault_code")
    for index, spn in enumerate(block.critical_spns):
        if spn not in known_spns:
            yield (*path, "critical_spns", index), f"unknown SPN {spn}"
    for index, row in enumerate(block.overrides):
        if row.spn not in known_spns:
            yield (*path, "overrides", index, "spn"), f"unknown SPN {row.spn}"


def _outcomes(document: Document) -> Faults:
    names = [row.name for row in document.call_queue.outcomes]
    for index, row in enumerate(document.call_queue.outcomes):
        path: Path = ("call_queue", "outcomes", index)
        if row.name in names[:index]:
            yield path, f"the outcome {row.name} stands twice"
        if not (row.completes or row.next_contact or row.retry_after_s is not None):
            yield path, f"the outcome {row.name} neither completes, retries nor goes to the next contact"


def _hysteresis(document: Document) -> Faults:
    """What closes an episode lies on the safe side of what opens it."""
    anomalies = document.anomalies
    if anomalies.speed.clears_at_kmh > anomalies.speed.over_kmh:
        yield ("anomalies", "speed", "clears_at_kmh"), "clears above the speed that opens it"
    for index, one in enumerate(anomalies.sensors.sensors):
        path: Path = ("anomalies", "sensors", "sensors", index)
        if (one.over < inf) == (one.under > -inf):
            yield path, f"{one.field} needs exactly one of over and under"
        elif not one.under <= one.clears_at <= one.over:
            yield path, f"{one.field} clears beyond the value that opens it"
        if one.field in [other.field for other in anomalies.sensors.sensors[:index]]:
            yield path, f"the field {one.field} stands twice"
