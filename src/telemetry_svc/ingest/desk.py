"""One batch at the desk: every record gets its decision, in order, and everything to be written is laid out.

Nothing here waits or touches the database: the handler brings what must be known (states, which pings are repeats,
which commands are settled) and writes what the desk laid out.
"""

from collections.abc import Collection, Hashable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from telemetry_svc.codec import command as command_codec
from telemetry_svc.codec.command import TickSignal, machine_of
from telemetry_svc.codec.ping import is_future
from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.events import Event
from telemetry_svc.ingest.breaker import Trial
from telemetry_svc.ingest.decoding import CommandRecord, Decoded, PingRecord
from telemetry_svc.rules import MachineState, Policy, Step, decode_state, step
from telemetry_svc.store.command_outcomes import CommandOutcome
from telemetry_svc.store.dead_letters import Coordinates, TakenUp, WaitingRecord
from telemetry_svc.store.history import PingKey, StoredPing, Weeks
from telemetry_svc.store.parked import Parking
from telemetry_svc.stream.batch import HeldBack, Record
from telemetry_svc.stream.dead_letters import Refused
from telemetry_svc.stream.kafka import partition_of
from telemetry_svc.telemetry import Command, EditionId, Input, MachineId, Ping, Reading, Registration, Tick

log = structlog.get_logger(__name__)

AFTER_A_FAILED_TICK = timedelta(minutes=1)

_UNKNOWN = rejected(ErrorClass.UNKNOWN_MACHINE, "the machine is not registered")
_UNREADABLE = rejected(ErrorClass.INTERNAL, "the machine's stored state cannot be read")


class Tally(Struct):
    """What a batch brought beside what its lists hold, for the counters."""

    repeated: int = 0
    late: int = 0
    future: int = 0
    repeated_commands: int = 0


class Desk:
    """Decides one batch; after that its lists hold what is to be written.

    `states` are those at hand, `remember` and `know` bring the rest; `parked`: machines that wait behind a record which
    made the rules fail.
    """

    def __init__(
        self,
        policies: Mapping[EditionId, Policy],
        weeks: Weeks,
        partitions: int,
        *,
        states: dict[MachineId, MachineState],
        parked: Mapping[MachineId, bool],
        trial: Trial,
    ) -> None:
        self._trial = trial
        self._policies = policies
        self._weeks = weeks
        self._partitions = partitions
        self._known_pings: set[PingKey] = set()
        self._seen: set[PingKey] = set()
        self._settled: set[UUID] = set()
        self._unreadable: set[MachineId] = set()
        self.states = states
        self.parked = set(parked)
        self._failing = {machine_id for machine_id, is_behind_a_failure in parked.items() if is_behind_a_failure}
        self.parkings: dict[MachineId, Parking] = {}
        self.released: list[MachineId] = []
        self.held: list[tuple[MachineId, WaitingRecord]] = []
        self.failures = 0
        self._rule_failed = False
        self.postponed: dict[MachineId, datetime] = {}
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
                self.take(command, apply_seq)
        return self.registered[known:]

    def decide(self, one: Decoded) -> None:
        """The pings of a slice, whose commands were obeyed."""
        for apply_seq, ping in enumerate(one.pings, obeyed_seq(one) + 1):
            why = self._ping(ping, apply_seq)
            if why is not None:
                self.refuse(ping, why)

    def remember(self, encoded: Mapping[MachineId, bytes]) -> None:
        """Stored states of machines that were not asked for before."""
        for machine_id, state in encoded.items():
            try:
                self.states[machine_id] = decode_state(state)
            except msgspec.DecodeError as error:
                log.warning("a stored state cannot be read", machine_id=machine_id, reason=str(error)[:200])
                self._unreadable.add(machine_id)

    def know(self, known_pings: Collection[PingKey], settled: Collection[UUID] = ()) -> None:
        """More pings that are in history, and commands that were settled before."""
        self._known_pings.update(known_pings)
        self._settled.update(settled)

    @property
    def judged(self) -> int:
        """How many records have their decision so far."""
        tally = self.tally
        known = len(self.pings) + len(self.outliers) + len(self.outcomes) + tally.repeated + tally.repeated_commands
        return known + len(self.refused) + len(self.held)

    @property
    def passed(self) -> bool:
        """Whether any record came through the rules."""
        return bool(self.pings or self.outliers or self.outcomes)

    def try_again(self, one: PingRecord | CommandRecord, apply_seq: int) -> TakenUp:
        """A dead letter once more; says what became of it. A second refusal makes no second letter and parks nobody.

        `apply_seq`: its place in the order of inputs, or that of the input after which it is decided.
        """
        repeats = self.tally.repeated + self.tally.repeated_commands
        why = self._try(one, apply_seq)
        if why is not None:
            return TakenUp(coordinates(one.record), why.error_class, why.message)
        repeated = self.tally.repeated + self.tally.repeated_commands > repeats
        return TakenUp(coordinates(one.record), "repeated" if repeated else "replayed")

    def take(self, one: PingRecord | CommandRecord, apply_seq: int) -> None:
        """Decides one record, wherever it comes from."""
        why = self._try(one, apply_seq)
        if why is not None:
            self.refuse(one, why)

    def park(self, parking: Parking) -> None:
        """From here on the machine's records are held; they count as failed where they are behind one that failed."""
        self.parked.add(parking.machine_id)
        (self._failing.discard if parking.behind is None else self._failing.add)(parking.machine_id)
        self.parkings[parking.machine_id] = parking

    def _try(self, one: PingRecord | CommandRecord, apply_seq: int) -> Rejected | None:
        return self._ping(one, apply_seq) if isinstance(one, PingRecord) else self._command(one, apply_seq)

    def _ping(self, one: PingRecord, apply_seq: int) -> Rejected | None:
        """Decides one ping, or says why it is refused. The order of checks is the contract's."""
        content = one.content
        if isinstance(content, Rejected):
            return content
        machine_id, recorded_at, received_at = content.machine_id, content.recorded_at, one.received_at
        before = self.states.get(machine_id)
        why = self._misplaced(one.record, machine_id, before)
        if machine_id in self.parked and (why is None or why is _UNKNOWN or why is _UNREADABLE):
            self._hold(one, machine_id)
            return None
        if why is not None or before is None:
            return why or _UNKNOWN
        key = (machine_id, recorded_at, one.dedupe)
        if key in self._seen or key in self._known_pings:
            self.tally.repeated += 1
            return None
        future = is_future(recorded_at, received_at)
        outcome = self._step(before, Reading(content, received_at, future))
        if isinstance(outcome, Rejected):
            return outcome
        self._seen.add(key)
        self._keep(before, outcome, one.record.partition)
        self._store(one, content, future=future, late=_is_late(before, recorded_at), apply_seq=apply_seq)
        return None

    def _command(self, one: CommandRecord, apply_seq: int) -> Rejected | None:
        """Decides one command (not a tick), or says why the record is refused."""
        content = one.content
        if isinstance(content, Rejected):
            return content
        if isinstance(content, TickSignal):
            return rejected(ErrorClass.INVALID, "a tick is not tried again: its time has passed")
        machine_id = machine_of(content)
        why = self._key_fault(one.record, machine_id) or self._partition_fault(one.record)
        if why is not None:
            return why
        if content.command_id in self._settled:
            self.tally.repeated_commands += 1
            return None
        if machine_id in self.parked:
            self._hold(one, machine_id)
            return None
        return self._obeyed(one, content, apply_seq)

    def _obeyed(self, one: CommandRecord, command: Command, apply_seq: int) -> Rejected | None:
        machine_id = machine_of(command)
        before = self.states.get(machine_id)
        if before is None and (machine_id in self._unreadable or not isinstance(command, Registration)):
            return self._stateless(machine_id)
        outcome = self._step(before, command)
        if isinstance(outcome, Rejected):
            return outcome
        self._settled.add(command.command_id)
        self._keep(before, outcome, one.record.partition)
        if before is None:
            self.registered.append(machine_id)
        self.outcomes.append(_outcome(command, one, apply_seq, outcome.rejected))
        return None

    def tick(self, machine_ids: Collection[MachineId], at: datetime, partition: int) -> None:
        """Time has passed for these machines, whose states are known. One that fails is asked again by a later tick."""
        for machine_id in machine_ids:
            before = self.states.get(machine_id)
            if before is None or machine_id in self.parked:
                continue
            outcome = self._step(before, Tick(at))
            if isinstance(outcome, Step):
                self._keep(before, outcome, partition)
            else:
                self.postponed[machine_id] = at + AFTER_A_FAILED_TICK
                self.touched[machine_id] = partition

    def pass_time(self, machine_id: MachineId, until: datetime, partition: int) -> Rejected | None:
        """What time alone decides of a machine that could not be ticked meanwhile, at the moments its state names."""
        while True:
            state = self.states.get(machine_id)
            at = None if state is None else state.next_check_at
            if state is None or at is None or at > until:
                return None
            outcome = self._step(state, Tick(at))
            if isinstance(outcome, Rejected):
                return outcome
            self._keep(state, outcome, partition)
            if outcome.state.next_check_at == at:
                return None

    def _misplaced(self, record: Record, machine_id: MachineId, state: MachineState | None) -> Rejected | None:
        """Key, machine, partition, in this order; the partition is worked out once per machine and batch."""
        if record.key != machine_id.encode():
            return self._key_fault(record, machine_id)
        if state is None:
            return self._stateless(machine_id)
        if self.touched.get(machine_id) == record.partition:
            return None
        return self._partition_fault(record)

    def _stateless(self, machine_id: MachineId) -> Rejected:
        return _UNREADABLE if machine_id in self._unreadable else _UNKNOWN

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
        """A rule that raises is our fault: the record becomes an `internal` dead letter, the state stays.

        Logged with its trace once in a batch: in a bad deploy each record would say the same.
        """
        try:
            return step(self._policy_for(state, given), state, given)
        except Exception as error:
            if not self._rule_failed:
                log.exception("a rule failed", input=type(given).__name__)
            self._rule_failed = True
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

    def _hold(self, one: PingRecord | CommandRecord, machine_id: MachineId) -> None:
        record = one.record
        waiting = WaitingRecord(
            record.topic,
            record.partition,
            record.offset,
            one.received_at,
            record.key,
            record.value,
            tuple(record.headers),
        )
        self.held.append((machine_id, waiting))
        if machine_id in self._failing:
            self._count_failure(machine_id)

    def refuse(self, one: PingRecord | CommandRecord, why: Rejected) -> None:
        """One dead letter. Where the fault is ours, its machine is parked behind it."""
        record, content = one.record, one.content
        machine_id = None if isinstance(content, Rejected | TickSignal) else machine_of_input(content)
        self.refused.append(Refused(record, one.received_at, why, machine_id))
        if why.error_class is not ErrorClass.INTERNAL:
            return
        if machine_id is not None:
            self.park(Parking(machine_id, record.partition, coordinates(record), why.message))
        self._count_failure(machine_id or record.key)

    def _count_failure(self, machine: Hashable) -> None:
        """Raises `HeldBack` where so much fails that nothing of the batch may be stored."""
        self.failures += 1
        if self._trial.failed(self.judged, machine):
            raise HeldBack


def _is_late(state: MachineState, recorded_at: datetime) -> bool:
    return state.latest_recorded_at is not None and recorded_at < state.latest_recorded_at


def machine_of_input(content: Ping | Command) -> MachineId:
    """The machine that a record is about."""
    return content.machine_id if isinstance(content, Ping) else machine_of(content)


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
