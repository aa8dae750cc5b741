"""What a run of lives must have met to prove anything: a fault where nothing depends on it tells nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from telemetry_svc import topics
from tests.simulation.faults import Struck
from tests.simulation.roles import House

_SAID = {
    "batch fenced": "a batch fenced",
    "batch rolled back, reading it again": "a batch rolled back",
    "ended sessions that held our partitions": "a sleeping owner's session ended",
    "outbox pass failed, trying again": "a pass of the relay failed",
}
SITUATIONS = (
    *_SAID.values(),
    "a message twice on the wire",
    "a tick applied",
    "a poisoned record",
    "a letter taken up",
    "a partition taken over",
    "a machine parked",
    "a lease",
    "a lease lapsed",
)


def situations(house: House, said: Iterable[Mapping[str, Any]]) -> Struck:
    """How often each came about in one life."""
    met = Struck(_SAID[line["event"]] for line in said if line["event"] in _SAID)
    rows = house.database.committed
    met["a message twice on the wire"] += _repeats(house)
    met["a tick applied"] += sum(bool(getattr(note, "ticks", ())) for note in house.database.notes)
    met["a poisoned record"] += sum(row["error_class"] == "internal" for row in rows("dead_letter"))
    met["a machine parked"] += any(
        row["taken_up_as"] == "replayed" and row["error_class"] == "internal" for row in rows("dead_letter")
    )
    met["a letter taken up"] += sum(row["taken_up_at"] is not None for row in rows("dead_letter"))
    met["a partition taken over"] += sum(row["owner_epoch"] - 1 for row in rows("partition_owner"))
    met["a lease"] += sum(row["step"] == "claimed" for row in rows("call_history"))
    met["a lease lapsed"] += sum(row["step"] == "lapsed" for row in rows("call_history"))
    return met


def _repeats(house: House) -> int:
    repeats = 0
    for place, log in house.broker.logs.items():
        if place.topic not in {topics.PINGS, topics.COMMANDS}:
            contents = [(record.key, record.value, record.headers) for record in log]
            repeats += len(contents) - len(set(contents))
    return repeats
