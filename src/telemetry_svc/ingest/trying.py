"""What waits in the database and is tried again, inside the fenced transaction of its partition's owner.

Three kinds, all with their original `received_at` and coordinates, none produced to a topic again: pings that came
before their machine was registered; what waits behind a record that made the rules fail; dead letters that a person
wants tried again. No turn takes more than `AT_ONCE` records; what is left has the next turn. Where PostgreSQL refuses
one of them, turns get smaller until it is alone and becomes a dead letter (`Turn.poison`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.codec.command import TickSignal, machine_of
from telemetry_svc.codec.rejected import ErrorClass, Rejected
from telemetry_svc.ingest.decoding import CommandRecord, Decoded, PingRecord, decode_waiting, ping_key
from telemetry_svc.ingest.desk import Desk, coordinates, machine_of_input, obeyed_seq
from telemetry_svc.store.command_outcomes import settled_commands
from telemetry_svc.store.dead_letters import (
    TakenUp,
    WaitingRecord,
    letter_at,
    mark_taken_up,
    requested_letters,
    still_waiting,
    waiting_for_registration,
)
from telemetry_svc.store.history import known_pings
from telemetry_svc.store.parked import (
    Held,
    Parked,
    Parking,
    drop_held,
    due_machine,
    held_records,
    postpone,
    put_behind,
    unpark,
)
from telemetry_svc.store.states import load_states
from telemetry_svc.telemetry import MachineId

log = structlog.get_logger(__name__)

AT_ONCE = 1_000
"""Records, and numbers in the order of inputs that are reserved for them."""

READ_HERE = topics.READ_BY[topics.INGEST_GROUP]
_TOGETHER = "PostgreSQL refused it, or one that was tried together with it: try it alone"

Waiting = PingRecord | CommandRecord


class Turn(Struct, frozen=True):
    """What waits in one partition is tried, `at_most` so many records; where one fails, again after `retry_every`.

    `one`: a slice with as many reserved numbers. `poison`: why PostgreSQL refuses the first record, the only one taken.
    """

    one: Decoded
    retry_every: timedelta
    at_most: int
    poison: Rejected | None = None

    @property
    def partition(self) -> int:
        return self.one.slice.partition

    def numbers(self) -> Iterator[int]:
        """Those that the consumer has reserved in the order of inputs."""
        return iter(range(self.one.slice.apply_seq - self.one.slice.reserved + 1, self.one.slice.apply_seq + 1))


async def take_up_registered(
    connection: AsyncConnection, desk: Desk, registered: Sequence[MachineId], one: Decoded, at_most: int
) -> None:
    """Pings that came before their machine was registered, oldest first, as they were received.

    Between the commands and the pings of the slice: decided in the order in which a replay finds them. A machine of
    which there are more than one turn takes, or of which one fails, is parked: what comes of it now must wait. So is
    one with a command among them, which needs a number of its own in the order of inputs.
    """
    partition, apply_seq = one.slice.partition, obeyed_seq(one)
    refused = {one.machine_id for one in desk.refused if one.why.error_class is ErrorClass.UNKNOWN_MACHINE}
    for machine_id in set(registered) & refused:  # in this very batch: its letter is not written yet
        desk.park(_catching_up(machine_id, partition))
    found = await waiting_for_registration(connection, registered, at_most + 1)
    records = await _known(connection, desk, found[:at_most])
    for record in records:
        unknown = _machine_of(record)
        if isinstance(record, CommandRecord) and unknown is not None:
            desk.park(_catching_up(unknown, partition))
    await mark_taken_up(connection, list(_oldest_first(desk, records, lambda _: apply_seq, partition)))
    if len(found) > at_most:
        for machine_id in await still_waiting(connection, registered) - desk.parked:
            desk.park(_catching_up(machine_id, partition))


async def try_again(connection: AsyncConnection, desk: Desk, turn: Turn) -> bool:
    """The parked machine that has waited longest, else letters that a person wants tried again.

    True where there was something; more may wait.
    """
    parked = await due_machine(connection, turn.partition)
    if parked is not None:
        await _Parked(connection, desk, turn, parked).catch_up()
        return True
    letters = await requested_letters(connection, turn.partition, READ_HERE, turn.at_most)
    records = await _known(connection, desk, letters, turn.poison)
    behind = {
        coordinates(one.record): machine_id
        for one in records
        if (machine_id := _machine_of(one)) is not None and machine_id in desk.parked
    }
    await put_behind(connection, behind)  # or they would be found again in each turn, before all others
    numbers = turn.numbers()
    free = [one for one in records if coordinates(one.record) not in behind]
    await mark_taken_up(connection, [desk.try_again(one, next(numbers)) for one in free])
    return bool(letters)


async def put_off(connection: AsyncConnection, _: Desk, turn: Turn) -> bool:
    """Instead of `try_again`, where PostgreSQL refuses it and no record of it may answer for that (the breaker is open,
    or the dead letter is refused too): it must not hold up the partition's records."""
    parked = await due_machine(connection, turn.partition)
    if parked is not None:
        log.error("a parked machine cannot be stored", machine_id=parked.machine_id)
        await postpone(connection, parked.machine_id, turn.retry_every)
        return True
    letters = await requested_letters(connection, turn.partition, READ_HERE, turn.at_most)
    refused = [TakenUp(coordinates(letter), ErrorClass.INTERNAL, _TOGETHER) for letter in letters]
    await mark_taken_up(connection, refused)
    return bool(letters)


class _Parked:
    """One parked machine in one turn: its dead letter, then what waited for its registration, then what was held."""

    def __init__(self, connection: AsyncConnection, desk: Desk, turn: Turn, parked: Parked) -> None:
        self._connection = connection
        self._desk = desk
        self._turn = turn
        self._numbers = turn.numbers()
        self._parked = parked
        self._machine_id = parked.machine_id

    async def catch_up(self) -> None:
        """As far as one turn goes; the machine stays parked where something fails again or is left."""
        self._desk.parked.discard(self._machine_id)
        if not await self._letter():
            self._desk.parked.add(self._machine_id)
            await postpone(self._connection, self._machine_id, self._turn.retry_every)
            return
        left = self._turn.at_most - (self._parked.behind is not None)
        left -= await self._unregistered(left)
        if left > 0 and not self._is_parked:
            left -= await self._held(left)
        if self._is_parked:
            return  # behind what failed now
        if left > 0:
            await unpark(self._connection, self._machine_id)
            self._desk.released.append(self._machine_id)
        else:
            self._desk.park(_catching_up(self._machine_id, self._turn.partition))

    @property
    def _is_parked(self) -> bool:
        return self._machine_id in self._desk.parked

    async def _letter(self) -> bool:
        """False where the record fails again."""
        letter = None if self._parked.behind is None else await letter_at(self._connection, self._parked.behind)
        if letter is None:
            return True
        [record] = await _known(self._connection, self._desk, [letter], self._turn.poison)
        if self._time_fails(record):
            return False
        outcome = self._desk.try_again(record, next(self._numbers))
        if outcome.outcome == ErrorClass.INTERNAL and self._turn.poison is None:
            return False
        await mark_taken_up(self._connection, [outcome])
        return True

    async def _unregistered(self, at_most: int) -> int:
        found = await waiting_for_registration(self._connection, [self._machine_id], at_most)
        records = await _known(self._connection, self._desk, found, self._turn.poison)
        outcomes = list(_oldest_first(self._desk, records, lambda _: next(self._numbers), self._turn.partition))
        await mark_taken_up(self._connection, outcomes)
        return len(found)

    async def _held(self, at_most: int) -> int:
        """Returns how many of the held records were decided."""
        held = await held_records(self._connection, self._machine_id, at_most)
        records = await _known(self._connection, self._desk, [one.record for one in held], self._turn.poison)
        decided: list[Held] = []
        for one, record in zip(held, records, strict=True):
            decided.append(one)
            self._decide(record)
            if self._is_parked:
                break
        if decided:
            await drop_held(self._connection, self._machine_id, decided[-1].n)
        return len(decided)

    def _decide(self, record: Waiting) -> None:
        if (why := self._time_fails(record)) is not None:
            self._desk.refuse(record, why)
        else:
            self._desk.take(record, next(self._numbers))

    def _time_fails(self, record: Waiting) -> Rejected | None:
        """No tick was applied while the machine was parked: time passes up to the record, as it would have then."""
        return self._desk.pass_time(self._machine_id, record.received_at, self._turn.partition)


def _oldest_first(
    desk: Desk, records: Iterable[Waiting], number: Callable[[Waiting], int], partition: int
) -> Iterator[TakenUp]:
    """What became of each; where one fails, its machine is parked behind it and its later ones are left."""
    for record in records:
        machine_id = _machine_of(record)
        if machine_id in desk.parked:
            continue
        outcome = desk.try_again(record, number(record))
        if outcome.outcome == ErrorClass.INTERNAL and machine_id is not None:
            desk.park(Parking(machine_id, partition, outcome.where, outcome.why or outcome.outcome))
        else:
            yield outcome


async def _known(
    connection: AsyncConnection, desk: Desk, waiting: Sequence[WaitingRecord], poison: Rejected | None = None
) -> list[Waiting]:
    """The records decoded, and known to the desk what it needs to decide them."""
    records = [decode_waiting(one, poison) for one in waiting]
    if not records:
        return records
    machines = {machine_id for one in records if (machine_id := _machine_of(one)) is not None}
    desk.remember(await load_states(connection, machines - desk.states.keys()))
    keys = [key for one in records if isinstance(one, PingRecord) and (key := ping_key(one)) is not None]
    commands = [
        (machine_of(one.content), one.content.command_id)
        for one in records
        if isinstance(one, CommandRecord) and not isinstance(one.content, Rejected | TickSignal)
    ]
    desk.know(await known_pings(connection, keys), await settled_commands(connection, commands))
    return records


def _machine_of(record: Waiting) -> MachineId | None:
    content = record.content
    return None if isinstance(content, Rejected | TickSignal) else machine_of_input(content)


def _catching_up(machine_id: MachineId, partition: int) -> Parking:
    return Parking(machine_id, partition, None, "catching up")
