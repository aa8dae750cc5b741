"""An event's id is drawn, once per fact and process, and not derived from the fact."""

from functools import cache
from uuid import uuid4

from telemetry_svc import events
from telemetry_svc.events import EventId


def apply() -> None:
    @cache
    def drawn(*_: str) -> EventId:
        return EventId(uuid4())

    setattr(events, "event_id", drawn)  # noqa: B010 - mypy would have it unchanged
