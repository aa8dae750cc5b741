"""The promises, compared with what is in the database and on the topics when all is drained. Every line is a breach."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from telemetry_svc import topics
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.events import Event, MaintenanceDue
from telemetry_svc.ingest.decoding import CommandRecord, PingRecord
from telemetry_svc.rules import encode_state
from telemetry_svc.store.outbox import headers_json
from telemetry_svc.stream.batch import Record
from telemetry_svc.telemetry import MachineId, Registration
from tests.simulation.call_checks import call_problems
from tests.simulation.database import Row
from tests.simulation.reference import Reference, in_any_order
from tests.simulation.roles import House, IngestNote, NotifyNote, policies

AGREED_STAGES = {"due", "overdue", "expired"}


FactName = tuple[str, str, str]
"""rule, subject, stage"""


def problems_of(house: House) -> list[str]:
    """All breaches of one life, in words."""
    ingested = [note for note in house.database.notes if isinstance(note, IngestNote)]
    notified = [note for note in house.database.notes if isinstance(note, NotifyNote)]
    problems = list(_applied(house, (topics.PINGS, topics.COMMANDS), _records_of(ingested)))
    problems += _applied(house, (topics.MAINTENANCE_DUE, topics.ANOMALY), (r for n in notified for r in n.records))
    if problems:
        return problems  # the reference takes each record once
    reference = _reference(ingested)
    problems += _stored(house, reference)
    problems += _told(house)
    problems += _agreeing(house, reference, ingested)
    return problems + list(call_problems(house, notified))


def _records_of(notes: Iterable[IngestNote]) -> Iterator[Record]:
    for note in notes:
        for one in note.work.decoded:
            yield from one.slice.second
            yield from one.slice.first


def _applied(house: House, names: tuple[str, str], records: Iterable[Record]) -> Iterator[str]:
    """Each record of the topics once, in the order of its partition."""
    applied: dict[tuple[str, int], list[int]] = defaultdict(list)
    for record in records:
        applied[record.topic, record.partition].append(record.offset)
    for place, log in house.broker.logs.items():
        if place.topic not in names:
            continue
        offsets = applied.pop((place.topic, place.partition), [])
        times = Counter(offsets)
        yield from (f"lost: {place} offset {one.offset}" for one in log if one.offset not in times)
        yield from (f"duplicated: {place} offset {one}" for one, count in times.items() if count > 1)
        if offsets != sorted(offsets):
            yield f"reordered: {place} applied as {offsets}"
    yield from (f"phantom: {place} {offsets}" for place, offsets in applied.items() if offsets)


def _reference(notes: Iterable[IngestNote]) -> Reference:
    reference = Reference(policies())
    for note in notes:
        reference.begin()
        for one in note.work.decoded:
            new = [machine_id for command in one.commands if (machine_id := reference.obey(command)) is not None]
            for machine_id in sorted(new):
                reference.take_up(machine_id)
            for ping in one.pings:
                reference.read(ping)
        for partition, tick in () if note.work.is_poisoned else note.ticks:  # such a tick is dropped; others follow
            reference.pass_time(partition, tick.at)
    return reference


def _stored(house: House, reference: Reference) -> Iterator[str]:
    """History, states, facts, commands and letters: exactly those of a life without faults in the same order."""
    rows = house.database.committed
    history = {(row["machine_id"], row["recorded_at"], row["dedupe"]) for row in rows("ping")}
    yield from _differ("history", history, reference.history)
    parked = house.parked_once()
    states = {(one, encode_state(state)) for one, state in reference.states.items() if one != parked}
    found = {(row["machine_id"], row["state"]) for row in rows("machine_state") if row["machine_id"] != parked}
    yield from _differ("state", found, states)
    yield from _differ("command", {(row["id"], row["status"]) for row in rows("command")}, reference.commands.items())
    late = [row for row in rows("dead_letter") if parked is not None and row["machine_id"] == parked]
    yield from _buried([row for row in rows("dead_letter") if row not in late], reference, parked)
    yield from _caught_up(late)
    for machine_id, expected in reference.events.items():
        mine = sorted((row for row in rows("event") if row["machine_id"] == machine_id), key=lambda row: row["n"])
        if machine_id == parked:
            yield from _in_its_own_time(house, machine_id, _names(mine), [_name(event) for event in expected])
        elif [row["id"] for row in mine] != [event.id for event in expected]:
            yield f"facts of {machine_id}: {_names(mine)} instead of {[_name(event) for event in expected]}"


def _in_its_own_time(
    house: House, machine_id: MachineId, found: list[FactName], expected: list[FactName]
) -> Iterator[str]:
    """Facts of a machine that was parked. Time passes for it record by record, so the clock may have come further; and
    commands and readings may be caught up with in another order, of which none is promised."""
    if machine_id in house.workload.agreeing:
        by_clock = [name for name in found if name[0] in {"warranty", "checkup"}]
        yield from _differ(f"facts of {machine_id}, parked", found, [*expected, *by_clock])


def _caught_up(rows: Iterable[Row]) -> Iterator[str]:
    """What was refused of the machine that was parked was tried again until it came through."""
    for row in rows:
        if row["error_class"] in {"internal", "unknown_machine"} and row["taken_up_as"] not in {"replayed", "repeated"}:
            yield f"left behind: offset {row['topic_offset']} of {row['topic']}, {row['taken_up_as']}"


def _buried(rows: Iterable[Row], reference: Reference, parked: str | None) -> Iterator[str]:
    letters = {(row["topic"], row["partition"], row["topic_offset"]): row for row in rows}
    classes = {(where, row["error_class"]) for where, row in letters.items()}
    expected = {where: one for where, one in reference.letters.items() if parked is None or one.machine_id != parked}
    yield from _differ("letter", classes, {(where, one.error_class) for where, one in expected.items()})
    again = {(where, outcome) for where, outcome in reference.taken_up.items() if where in expected}
    taken_up = {(where, row["taken_up_as"]) for where, row in letters.items() if row["taken_up_at"] is not None}
    yield from _differ("taken up", taken_up, again)


def _names(rows: Iterable[Mapping[str, Any]]) -> list[FactName]:
    return [(row["rule"], row["subject"], row["stage"]) for row in rows]


def _name(event: Event) -> FactName:
    return (event.rule, event.subject, event.stage)


def _differ(what: str, found: Iterable[Any], expected: Iterable[Any]) -> Iterator[str]:
    found, expected = set(found), set(expected)
    yield from (f"{what} too much: {one}" for one in sorted(map(str, found - expected)))
    yield from (f"{what} missing: {one}" for one in sorted(map(str, expected - found)))


def _told(house: House) -> Iterator[str]:
    """Whatever was decided to go out went out, nothing else did, and first occurrences in the order of each key."""
    decided: dict[tuple[str, bytes | None], list[tuple[Any, ...]]] = defaultdict(list)
    for row in sorted(house.database.committed("outbox"), key=lambda row: row["id"]):
        decided[row["topic"], row["key"]].append((row["value"], row["headers"]))
    arrived: dict[tuple[str, bytes | None], list[tuple[Any, ...]]] = defaultdict(list)
    for place, log in house.broker.logs.items():
        for record in () if place.topic == topics.PINGS else log:
            content = (record.value, headers_json(record.headers))
            if content not in arrived[place.topic, record.key]:
                arrived[place.topic, record.key].append(content)
    for where in decided.keys() | arrived.keys():
        mine = list(dict.fromkeys(decided[where]))
        if where[1] is None:
            mine, arrived[where] = sorted(mine, key=str), sorted(arrived[where], key=str)
        if mine != arrived[where]:
            yield f"told of {where}: {len(arrived[where])} of {len(mine)}, or in another order"
    yield from _alerts(house)


def _alerts(house: House) -> Iterator[str]:
    sent = [
        json.loads(row["value"])["id"]
        for row in house.database.committed("outbox")
        if row["topic"] in {topics.MAINTENANCE_DUE, topics.ANOMALY}
    ]
    facts = {str(row["id"]) for row in house.database.committed("event")}
    yield from _differ("alert", sent, facts)
    yield from (f"an alert decided twice: {one}" for one, count in Counter(sent).items() if count > 1)


def _agreeing(house: House, reference: Reference, notes: list[IngestNote]) -> Iterator[str]:
    """Readings that agree decide the same in any order: what is due, overdue and expired."""
    registrations, pings = _by_machine(notes)
    for machine_id in house.workload.agreeing & registrations.keys():
        registration = registrations[machine_id]
        until = reference.asked_at.get(machine_id)
        ordered = in_any_order(policies(), registration, pings[machine_id], until)
        yield from _differ(f"agreed of {machine_id}", _decided(reference, machine_id), _decided(ordered, machine_id))


def _by_machine(
    notes: Iterable[IngestNote],
) -> tuple[dict[MachineId, CommandRecord], dict[MachineId, list[PingRecord]]]:
    registrations: dict[MachineId, CommandRecord] = {}
    pings: dict[MachineId, list[PingRecord]] = defaultdict(list)
    for note in notes:
        for one in note.work.decoded:
            for command in one.commands:
                if isinstance(command.content, Registration):
                    registrations[command.content.machine.machine_id] = command
            for ping in one.pings:
                if not isinstance(ping.content, Rejected):
                    pings[ping.content.machine_id].append(ping)
    return registrations, pings


def _decided(reference: Reference, machine_id: MachineId) -> set[FactName]:
    return {
        _name(event)
        for event in reference.events[machine_id]
        if isinstance(event.data, MaintenanceDue) and event.stage in AGREED_STAGES
    }
