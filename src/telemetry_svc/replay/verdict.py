"""What a replay found, held against the facts that are known outside: same, new, missing, changed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from telemetry_svc.codec import cloudevent
from telemetry_svc.events import Event
from telemetry_svc.replay.course import Raised
from telemetry_svc.replay.starting import Start
from telemetry_svc.store.replay_rows import StoredEvent

_OF_THE_FILE = ("policy_edition", "policy_digest")
"""They differ wherever another file decides, and say nothing about the machine."""


class Change(Struct, frozen=True):
    """One field of a fact that would be told otherwise."""

    fact: StoredEvent
    field: str
    before: Any
    after: Any


class Verdict(Struct, frozen=True):
    """`same`: how many facts came out again; `missing`: stored, and not raised again."""

    same: int
    new: tuple[Event, ...]
    missing: tuple[StoredEvent, ...]
    changed: tuple[Change, ...]


def verdict(raised: Mapping[UUID, Raised], stored: Sequence[StoredEvent], start: Start, since: datetime) -> Verdict:
    """Judges what was decided from `since` on; what came before it only led up to it.

    A fact that an earlier replay had to add is never missed: when it was decided is not known.
    """
    known = {fact.id: fact for fact in stored}
    judged = [one.event for one in raised.values() if one.at >= since]
    again = [event for event in judged if event.id in known]
    return Verdict(
        same=len(again),
        new=tuple(event for event in judged if event.id not in known),
        missing=tuple(fact for fact in stored if fact.id not in raised and _is_expected(fact, start, since)),
        changed=tuple(change for event in again for change in _changes(known[event.id], event)),
    )


def _is_expected(fact: StoredEvent, start: Start, since: datetime) -> bool:
    return fact.n > start.event_n and fact.decided_at >= since and not fact.by_replay


def _changes(fact: StoredEvent, event: Event) -> Iterator[Change]:
    body = msgspec.json.decode(cloudevent.encode(event))
    if body["time"] != fact.body["time"]:
        yield Change(fact, "time", fact.body["time"], body["time"])
    before, after = fact.body["data"], body["data"]
    for field in dict.fromkeys([*after, *before]):
        if field not in _OF_THE_FILE and before.get(field) != after.get(field):
            yield Change(fact, field, before.get(field), after.get(field))
