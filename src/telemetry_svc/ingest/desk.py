"""One batch at the desk: every record gets its decision, in order, and everything to be written is laid out.

Nothing here waits or touches the database: the handler brings what must be known (states, which pings are repeats,
which commands are settled) and writes what the desk laid out.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import structlog
from msgspec import Struct

from telemetry_svc.codec import command as command_codec
from telemetry_svc.codec.command import TickSignal, machine_of
from telemetry_svc.codec.ping import is_future
from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.events import Event
from telemetry_svc.ingest.decoding import CommandRecord, Decoded, PingRecord
from telemetry_svc.rules import MachineState, Policy, Step, step
from telemetry_svc.store.command_outcomes import CommandOutcome
from telemetry_svc.store.dead_letters import Coordinates
from telemetry_svc.store.history import PingKey, StoredPing, Weeks
from telemetry_svc.stream.batch import Record
from telemetry_svc.stream.dead_letters import Refused
from telemetry_svc.stream.kafka import partition_of
from telemetry_svc.telemetry import Command, EditionId, Input, MachineId, Ping, Reading, Registration, Tick

log = structlog.get_logger(__name__)

_UNKNOWN = rejected(ErrorClass.UNKNOWN_MACHINE, "the machine is not registered")


class Tally(Struct):
    """What a batch brought beside what its lists hold, for the counters."""

    repeated: int = 0
    late: int = 0
    future: int = 0
    repeated_commands: int = 0


class Knowledge(Struct):
    """What must be known before a decision. `settled`: commands applied or rejected before."""

    states: dict[MachineId, MachineState]
    known_pings: Collection[PingKey]
    settled: set[UUID]


class Desk:
    """Decides one batch; after that its lists hold what is to be written."""

    def __init__(
        self, policies: Mapping[EditionId, Policy], weeks: Weeks, partitions: int, knowledge: Knowledge
    ) -> None:
        self._policies = policies
        self._weeks = weeks
        self._partitions = partitions
        self._known_pings = knowledge.known_pings
        self._seen: set[PingKey] = set()
        self._settled = knowledge.settled
        self.states = knowledge.states
        self.touched: dict[MachineId, int] = {}
        self.registered: list[MachineId] = []
        self.pings: list[StoredPing] = []
        self.outliers: list[StoredPing] = []
        self.events: list[Event] = []
        self.refused: list[Refused] = []
        self.outcomes: list[CommandOutcome] = []
        self.tally = Tally()

    def obey(self, one: Decoded) -> list[MachineId]:
        """The commands of a slice, before its pings: a registration comes before the pings it came with.

        Returns the machines that are new.
        """
        known = len(self.registered)
        for apply_seq, command in enumerate(one.commands, one.slice.apply_seq + 1):
            if not isinstance(command.content, TickSignal):
                self.command(command, apply_seq)
        return self.registered[known:]

    def decide(self, one: Decoded) -> None:
        """The pings of a slice, whose commands were obeyed."""
        for apply_seq, ping in enumerate(one.pings, obeyed_seq(one) + 1):
            self.ping(ping, apply_seq)

    def know(self, known_pings: Collection[PingKey]) -> None:
        """More pings that are in history."""
        self._known_pings = {*self._known_pings, *known_pings}

    def take_up(self, one: PingRecord, apply_seq: int) -> str:
        """A dead letter whose machine is known by now; says what became of it. A second refusal makes no second letter.

        `apply_seq`: that of the input after which it is decided.
        """
        before = self.tally.repeated
        content = one.content
        if isinstance(content, Rejected):
            return content.error_class
        refused = self.ping(one, apply_seq)
        if refused is not None:
            self.refused.pop()
            return refused
        return "repeated" if self.tally.repeated > before else "replayed"

    def ping(self, one: PingRecord, apply_seq: int) -> ErrorClass | None:
        """Decides one ping; returns the class where it was refused. The order of checks is the contract's."""
        content = one.content
        if isinstance(content, Rejected):
            return self._refuse(one.record, one.received_at, content)
        machine_id, recorded_at, received_at = content.machine_id, content.recorded_at, one.received_at
        before = self.states.get(machine_id)
        why = self._misplaced(one.record, machine_id, before)
        if why is not None or before is None:
            return self._refuse(one.record, received_at, why or _UNKNOWN, machine_id)
        key = (machine_id, recorded_at, one.dedupe)
        if key in self._seen or key in self._known_pings:
            self.tally.repeated += 1
            return None
        future = is_future(recorded_at, received_at)
        outcome = self._step(before, Reading(content, received_at, future))
        if isinstance(outcome, Rejected):
            return self._refuse(one.record, received_at, outcome, machine_id)
        self._seen.add(key)
        self._keep(before, outcome, one.record.partition)
        self._store(one, content, future=future, late=_is_late(before, recorded_at), apply_seq=apply_seq)
        return None

    def command(self, one: CommandRecord, apply_seq: int) -> ErrorClass | None:
        """Decides one command (not a tick); returns the class where the record was refused."""
        content = one.content
        if isinstance(content, Rejected):
            return self._refuse(one.record, one.received_at, content)
        assert not isinstance(content, TickSignal)  # noqa: S101 - the handler keeps ticks
        machine_id = machine_of(content)
        why = self._key_fault(one.record, machine_id) or self._partition_fault(one.record)
        if why is not None:
            return self._refuse(one.record, one.received_at, why, machine_id)
        if content.command_id in self._settled:
            self.tally.repeated_commands += 1
            return None
        before = self.states.get(machine_id)
        if before is None and not isinstance(content, Registration):
            return self._refuse(one.record, one.received_at, _UNKNOWN, machine_id)
        outcome = self._step(before, content)
        if isinstance(outcome, Rejected):
            return self._refuse(one.record, one.received_at, outcome, machine_id)
        self._settled.add(content.command_id)
        self._keep(before, outcome, one.record.partition)
        if before is None:
            self.registered.append(machine_id)
        self.outcomes.append(_outcome(content, one, apply_seq, outcome.rejected))
        return None

    def tick(self, machine_ids: Collection[MachineId], at: datetime, partition: int) -> None:
        """Time has passed for these machines, whose states are known."""
        for machine_id in machine_ids:
            before = self.states[machine_id]
            outcome = self._step(before, Tick(at))
            if isinstance(outcome, Step):
                self._keep(before, outcome, partition)

    def _misplaced(self, record: Record, machine_id: MachineId, state: MachineState | None) -> Rejected | None:
        """Key, machine, partition, in this order; the partition is worked out once per machine and batch."""
        if record.key != machine_id.encode():
            return self._key_fault(record, machine_id)
        if state is None:
            return _UNKNOWN
        if self.touched.get(machine_id) == record.partition:
            return None
        return self._partition_fault(record)

    def _key_fault(self, record: Record, machine_id: MachineId) -> Rejected | None:
        if record.key == machine_id.encode():
            return None
        reason = "the record has no key" if record.key is None else "the record's key is not its machine_id"
        return rejected(ErrorClass.KEY_MISMATCH, reason)

    def _partition_fault(self, record: Record) -> Rejected | None:
        expected = partition_of(record.key or b"", self._partitions)
        if expected == record.partition:
            return None
        return rejected(
            ErrorClass.WRONG_PARTITION, f"partition {record.partition}; the key belongs to partition {expected}"
        )

    def _step(self, state: MachineState | None, given: Input) -> Step | Rejected:
        """A rule that raises is our fault: the record becomes an `internal` dead letter, the state stays."""
        try:
            return step(self._policy_for(state, given), state, given)
        except Exception as error:
            log.exception("a rule failed", input=type(given).__name__)
            return rejected(ErrorClass.INTERNAL, f"{type(error).__name__} in the rules")

    def _policy_for(self, state: MachineState | None, given: Input) -> Policy:
        if state is not None:
            return self._policies[state.machine.policy_edition]
        assert isinstance(given, Registration)  # noqa: S101 - only a registration comes without a state
        return self._policies[given.machine.policy_edition]

    def _keep(self, before: MachineState | None, outcome: Step, partition: int) -> None:
        if outcome.state is not before:
            machine_id = outcome.state.machine.machine_id
            self.states[machine_id] = outcome.state
            self.touched[machine_id] = partition
        if outcome.events:
            self.events.extend(outcome.events)

    def _store(self, one: PingRecord, ping: Ping, *, future: bool, late: bool, apply_seq: int) -> None:
        record = one.record
        stored = StoredPing(ping, one.dedupe, one.received_at, future, record.partition, record.offset, apply_seq)
        (self.pings if self._weeks.hold(ping.recorded_at) else self.outliers).append(stored)
        self.tally.late += late
        self.tally.future += future

    def _refuse(
        self, record: Record, received_at: datetime, why: Rejected, machine_id: MachineId | None = None
    ) -> ErrorClass:
        self.refused.append(Refused(record, received_at, why, machine_id))
        return why.error_class


def _is_late(state: MachineState, recorded_at: datetime) -> bool:
    return state.latest_recorded_at is not None and recorded_at < state.latest_recorded_at


def _outcome(command: Command, one: CommandRecord, apply_seq: int, reason: str | None) -> CommandOutcome:
    return CommandOutcome(
        machine_id=machine_of(command),
        command_id=command.command_id,
        kind=command_codec.kind_of(command),
        body=command_codec.encode(command).decode(),
        received_at=one.received_at,
        partition=one.record.partition,
        apply_seq=apply_seq,
        reason=reason,
    )


def obeyed_seq(one: Decoded) -> int:
    """The `apply_seq` of a slice's last command, where it has any: its pings come after it."""
    return one.slice.apply_seq + len(one.commands)


def coordinates(record: Record) -> Coordinates:
    """What names a record for ever: topic, partition, offset."""
    return (record.topic, record.partition, record.offset)
