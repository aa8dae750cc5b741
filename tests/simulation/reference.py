"""What must have come of everything, worked out slowly: one record after the other, one machine at a time, from memory.

It takes the order in which things were applied as the committed transactions tell it, and knows nothing of batches,
caches, locks or offsets. Only the rules themselves and the codecs are the service's own; they have their own tests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from telemetry_svc.codec.command import TickSignal, machine_of
from telemetry_svc.codec.ping import is_future
from telemetry_svc.codec.rejected import ErrorClass, Rejected
from telemetry_svc.events import Event, EventId
from telemetry_svc.ingest.decoding import CommandRecord, PingRecord
from telemetry_svc.rules import MachineState, Policy, Step, step
from telemetry_svc.store.dead_letters import Coordinates
from telemetry_svc.stream.batch import Record
from telemetry_svc.telemetry import Command, EditionId, Input, MachineId, Reading, Registration, Tick

PingKey = tuple[str, datetime, int]


class Letter(Struct, frozen=True):
    """Why a record was refused, and the machine it is about where that could be read."""

    error_class: str
    machine_id: MachineId | None


class Reference:
    """The house as it must be."""

    def __init__(self, policies: Mapping[EditionId, Policy]) -> None:
        self._policies = policies
        self.states: dict[MachineId, MachineState] = {}
        self.partitions: dict[MachineId, int] = {}
        self.history: set[PingKey] = set()
        self.commands: dict[UUID, str] = {}
        self.events: dict[MachineId, list[Event]] = defaultdict(list)
        self.letters: dict[Coordinates, Letter] = {}
        self.taken_up: dict[Coordinates, str] = {}
        self._waiting: dict[MachineId, list[PingRecord | CommandRecord]] = defaultdict(list)
        self._due: list[tuple[datetime, MachineId]] = []
        self._there: set[MachineId] = set()
        self.asked_at: dict[MachineId, datetime] = {}
        self._raised: set[EventId] = set()

    def begin(self) -> None:
        """A transaction begins: a tick in it finds those due whose time was written down before."""
        self._there = set(self.states)
        self._due = sorted(
            (state.next_check_at, machine_id)
            for machine_id, state in self.states.items()
            if state.next_check_at is not None
        )

    def obey(self, one: CommandRecord) -> MachineId | None:
        """A command; returns its machine if that is new."""
        content = one.content
        if isinstance(content, TickSignal):
            return None
        if isinstance(content, Rejected):
            self._bury(one.record, content.error_class)
            return None
        if content.command_id in self.commands:
            return None
        machine_id = machine_of(content)
        is_new = machine_id not in self.states
        if is_new and not isinstance(content, Registration):
            self._bury(one.record, ErrorClass.UNKNOWN_MACHINE, machine_id)
            self._waiting[machine_id].append(one)
            return None
        self._obey(one, content)
        return machine_id if is_new else None

    def _obey(self, one: CommandRecord, command: Command) -> bool:
        """False where it was obeyed before."""
        if command.command_id in self.commands:
            return False
        done = self._step(machine_of(command), command, one.record.partition)
        self.commands[command.command_id] = "applied" if done.rejected is None else "rejected"
        return True

    def take_up(self, machine_id: MachineId) -> None:
        """What came before the machine was registered, the oldest first."""
        waiting = sorted(self._waiting.pop(machine_id, []), key=lambda one: (one.received_at, one.record.offset))
        for one in waiting:
            self.taken_up[_where(one.record)] = "replayed" if self._taken(one) else "repeated"

    def _taken(self, one: PingRecord | CommandRecord) -> bool:
        if isinstance(one, PingRecord):
            return self._read(one)
        assert not isinstance(one.content, Rejected | TickSignal)
        return self._obey(one, one.content)

    def read(self, one: PingRecord) -> None:
        """A ping as it came from the topic."""
        content = one.content
        if isinstance(content, Rejected):
            self._bury(one.record, content.error_class)
        elif one.record.key != content.machine_id.encode():
            self._bury(one.record, ErrorClass.KEY_MISMATCH, content.machine_id)
        elif content.machine_id not in self.states:
            self._bury(one.record, ErrorClass.UNKNOWN_MACHINE, content.machine_id)
            self._waiting[content.machine_id].append(one)
        else:
            self._read(one)

    def pass_time(self, partition: int, at: datetime) -> None:
        """A tick: whoever waits for the clock, the longest waiting first."""
        self.asked_at |= {one: at for one in self._there if self.partitions[one] == partition}
        for check_at, machine_id in self._due:
            if check_at <= at and self.partitions[machine_id] == partition:
                self._step(machine_id, Tick(at), partition)

    def _read(self, one: PingRecord) -> bool:
        """False where the same ping is in history already."""
        assert not isinstance(one.content, Rejected)
        ping = one.content
        key = (ping.machine_id, ping.recorded_at, one.dedupe)
        if key in self.history:
            return False
        self.history.add(key)
        reading = Reading(ping, one.received_at, is_future(ping.recorded_at, one.received_at))
        self._step(ping.machine_id, reading, one.record.partition)
        return True

    def _step(self, machine_id: MachineId, given: Input, partition: int) -> Step:
        before = self.states.get(machine_id)
        machine = given.machine if isinstance(given, Registration) and before is None else None
        edition = before.machine.policy_edition if before is not None else machine.policy_edition if machine else None
        assert edition is not None
        done = step(self._policies[edition], before, given)
        self.states[machine_id] = done.state
        self.partitions[machine_id] = partition
        self.events[machine_id] += [event for event in done.events if event.id not in self._raised]
        self._raised |= {event.id for event in done.events}
        return done

    def _bury(self, record: Record, error_class: str, machine_id: MachineId | None = None) -> None:
        self.letters[_where(record)] = Letter(error_class, machine_id)


def in_any_order(
    policies: Mapping[EditionId, Policy],
    registration: CommandRecord,
    pings: Iterable[PingRecord],
    until: datetime | None,
) -> Reference:
    """One machine's registration, then its readings by their own time, then the clock."""
    reference = Reference(policies)
    reference.obey(registration)
    for one in sorted(pings, key=lambda one: one.content.recorded_at):  # type: ignore[union-attr]
        reference.read(one)
    if until is not None:
        reference.begin()
        reference.pass_time(registration.record.partition, until)
    return reference


def _where(record: Record) -> Coordinates:
    return (record.topic, record.partition, record.offset)
