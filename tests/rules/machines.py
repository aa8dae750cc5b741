"""Builders of inputs in the words of the domain, so that a scenario reads as one line per ping."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from telemetry_svc.events import Anomaly, Event, MaintenanceDue
from telemetry_svc.policies import load_policies
from telemetry_svc.rules import MachineState, Policy, Step, decode_state, encode_state, step
from telemetry_svc.telemetry import (
    EditionId,
    Input,
    InspectionDone,
    Machine,
    MachineId,
    MeterDecision,
    Ping,
    Reading,
    Registration,
    Tick,
)
from telemetry_svc.units import Centihours

REV1, TEXT_EDITION = EditionId("zoomlion-2011-rev1"), EditionId("zoomlion-2011")
MACHINE_ID = MachineId("ZE215-000017")
COMMAND_ID = UUID(int=1)
REGISTERED_AT = datetime(2026, 1, 15, 2, 0, tzinfo=UTC)


@cache
def policy(edition: EditionId = REV1) -> Policy:
    return load_policies(None)[edition]


def utc(text: str) -> datetime:
    """`2026-11-22 04:20:31` (or without the time) as a UTC instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ch(hours_h: float) -> Centihours:
    return Centihours(round(hours_h * 100))


def machine(tonnage_t: float = 22.5, **fields: Any) -> Machine:
    if "initial_h" in fields:
        fields["initial_ch"] = ch(fields.pop("initial_h"))
    if isinstance(fields.get("delivered_on"), str):
        fields["delivered_on"] = date.fromisoformat(fields["delivered_on"])
    defaults: dict[str, Any] = {"machine_id": MACHINE_ID, "policy_edition": REV1}
    return Machine(tonnage_t=tonnage_t, **(defaults | fields))


def registration(of: Machine, at: datetime = REGISTERED_AT, *, quiet: bool = False) -> Registration:
    return Registration(COMMAND_ID, of, at, at, quiet)


def reading(
    at: datetime, hours_h: float | None = None, *, received_at: datetime | None = None, **fields: Any
) -> Reading:
    shown = None if hours_h is None else ch(hours_h)
    arrived = received_at or at + timedelta(seconds=2)
    return Reading(Ping(MACHINE_ID, at, shown, **fields), arrived, at - arrived > timedelta(minutes=5))


def done(milestone_h: int | None, at: datetime, *, checkup_no: int | None = None) -> InspectionDone:
    return InspectionDone(COMMAND_ID, MACHINE_ID, at, at, milestone_h, checkup_no)


def decision(word: Any, at: datetime) -> MeterDecision:
    return MeterDecision(COMMAND_ID, MACHINE_ID, word, at)


def word(event: Event) -> str:
    """An event as a scenario writes it: `inspection 250 due`, `warranty machine expired`, `fault 110/0/0 opened`."""
    subject = event.subject.split("@")[0]
    return f"{event.rule} {subject} {event.stage}"


@dataclass
class Run:
    """One machine fed with inputs; every state passes through its bytes, as in the store."""

    machine: Machine = field(default_factory=machine)
    policy: Policy | None = None
    at: datetime = REGISTERED_AT
    quiet: bool = False
    events: list[Event] = field(default_factory=list)
    last: Step = field(init=False)

    def __post_init__(self) -> None:
        self.rules = self.policy or policy(self.machine.policy_edition)
        self.last = step(self.rules, None, registration(self.machine, self.at, quiet=self.quiet))
        self.events.extend(self.last.events)

    @property
    def state(self) -> MachineState:
        return self.last.state

    def give(self, *inputs: Input) -> list[str]:
        """What the inputs raised, in words."""
        before = len(self.events)
        for one in inputs:
            state = decode_state(encode_state(self.last.state))
            assert state == self.last.state
            self.last = step(self.rules, state, one)
            self.events.extend(self.last.events)
        assert all((event.rule_version or 0) >= 1 for event in self.events[before:]), (
            "every fact says which rule decided it"
        )
        return [word(event) for event in self.events[before:]]

    def read(self, *readings: Reading) -> list[str]:
        return self.give(*readings)

    def tick(self, at: datetime) -> list[str]:
        """A tick as ingest gives it: only to a machine that waits for that instant."""
        due = self.state.next_check_at
        return self.give(Tick(at)) if due is not None and due <= at else []

    def change(self, at: datetime, **fields: Any) -> list[str]:
        return self.give(registration(replace(self.machine, **fields), at))

    @property
    def words(self) -> list[str]:
        return [word(event) for event in self.events]

    def one(self, wanted: str) -> Event:
        """The only event of that word."""
        (found,) = [event for event in self.events if word(event) == wanted]
        return found


def due_data(event: Event) -> MaintenanceDue:
    assert isinstance(event.data, MaintenanceDue)
    return event.data


def anomaly_data(event: Event) -> Anomaly:
    assert isinstance(event.data, Anomaly)
    return event.data


def count(words: Iterable[str], ending: str) -> int:
    return sum(1 for one in words if one.endswith(ending))
