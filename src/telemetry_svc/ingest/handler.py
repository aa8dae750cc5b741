"""What ingest does with a batch, in one visible order (`IngestHandler.apply`).

The cache of machine states takes the new ones only after COMMIT has returned (design.md, decision 10); anything else
drops it, and so does every change of ownership.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence, Set
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.codec.command import TickSignal, machine_of
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.ingest.decoding import Decoded, decode_batch, decode_ping, ping_key
from telemetry_svc.ingest.desk import Desk, Knowledge, coordinates, obeyed_seq
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.ingest.ticks import MACHINES_PER_TURN, WaitingTick, WaitingTicks
from telemetry_svc.ingest.writing import write
from telemetry_svc.rules import MachineState, Policy, decode_state
from telemetry_svc.store.command_outcomes import settled_commands
from telemetry_svc.store.dead_letters import mark_taken_up, waiting_for_registration
from telemetry_svc.store.history import PingKey, Weeks, known_pings
from telemetry_svc.store.snapshots import take_snapshots
from telemetry_svc.store.states import due_machines, load_states
from telemetry_svc.stream.batch import Batch
from telemetry_svc.telemetry import EditionId, MachineId

CACHED_MACHINES = 200_000


class Work(Struct):
    """A decoded batch and, once it is applied, the desk that decided it and the ticks it used up."""

    decoded: list[Decoded]
    desk: Desk | None = None
    ticks: list[tuple[int, WaitingTick]] = []


class IngestHandler:
    """The `Handler` of the group `telemetry-ingest`.

    `ends_of_pings` asks the broker for the end offsets of ping partitions; `weeks` are those that have a partition in
    history, replaced by whoever has made new ones.
    """

    def __init__(
        self,
        *,
        policies: Mapping[EditionId, Policy],
        partitions: int,
        weeks: Weeks,
        metrics: IngestMetrics,
        ends_of_pings: Callable[[Collection[int]], Awaitable[Mapping[int, int]]],
    ) -> None:
        self._policies = policies
        self._partitions = partitions
        self.weeks = weeks
        self._metrics = metrics
        self._ends_of_pings = ends_of_pings
        self._cache: dict[MachineId, MachineState] = {}
        self._ticks = WaitingTicks()

    async def prepare(self, batch: Batch) -> Work:
        decoded = decode_batch(batch)
        ticks = {
            one.slice.partition: command.received_at
            for one in decoded
            for command in one.commands
            if isinstance(command.content, TickSignal)
        }
        if ticks:
            ends = await self._ends_of_pings(ticks)
            for number, at in ticks.items():
                self._ticks.add(number, WaitingTick(at, ends[number]))
        return Work(decoded)

    async def apply(self, connection: AsyncConnection, work: Work) -> None:
        states = await self._states_of(connection, work.decoded)
        knowledge = Knowledge(
            states=states,
            known_pings=await known_pings(connection, list(_possible_repeats(work.decoded, states))),
            settled=await settled_commands(connection, _commands_of(work.decoded)),
        )
        desk = Desk(self._policies, self.weeks, self._partitions, knowledge)
        for one in work.decoded:
            await self._take_up(connection, desk, desk.obey(one), obeyed_seq(one))
            desk.decide(one)
        work.ticks = await self._tick(connection, desk, work.decoded)
        await write(connection, desk)
        await _keep_snapshots(connection, work)
        work.desk = desk

    def committed(self, work: Work) -> None:
        if work.desk is None:
            return
        if len(self._cache) > CACHED_MACHINES:
            self._cache.clear()
        self._cache.update((machine_id, work.desk.states[machine_id]) for machine_id in work.desk.touched)
        for number, tick in work.ticks:
            self._ticks.done(number, tick)
        self._metrics.count(work.desk)

    def dropped(self) -> None:
        self._cache.clear()
        self._ticks.clear()

    def wants_turn(self) -> Mapping[int, int]:
        return dict.fromkeys(self._ticks.waiting(), 0)

    def takes(self) -> int | None:
        return None

    async def _states_of(self, connection: AsyncConnection, decoded: list[Decoded]) -> dict[MachineId, MachineState]:
        wanted = {machine_id for one in decoded for machine_id in _machines_of(one)}
        states = {machine_id: self._cache[machine_id] for machine_id in wanted if machine_id in self._cache}
        await _load(connection, wanted - states.keys(), states)
        return states

    async def _take_up(
        self, connection: AsyncConnection, desk: Desk, registered: Sequence[MachineId], apply_seq: int
    ) -> None:
        """Pings that came before their machine was registered, oldest first, as they were received.

        Between the commands and the pings of the slice: decided in the order in which a replay finds them.
        """
        waiting = await waiting_for_registration(connection, registered)
        if not waiting:
            return
        records = [decode_ping(record, record.received_at) for record in waiting]
        desk.know(await known_pings(connection, [key for key in map(ping_key, records) if key is not None]))
        await mark_taken_up(connection, [(coordinates(one.record), desk.take_up(one, apply_seq)) for one in records])

    async def _tick(
        self, connection: AsyncConnection, desk: Desk, decoded: list[Decoded]
    ) -> list[tuple[int, WaitingTick]]:
        used_up = []
        for one in decoded:
            number = one.slice.partition
            tick = self._ticks.ripe(number, one.slice.after[0])
            if tick is None:
                continue
            due = await due_machines(connection, number, tick.at, at_most=MACHINES_PER_TURN)
            await _load(connection, set(due) - desk.states.keys(), desk.states)
            desk.tick(due, tick.at, number)
            if len(due) < MACHINES_PER_TURN:
                used_up.append((number, tick))
        return used_up


async def _keep_snapshots(connection: AsyncConnection, work: Work) -> None:
    """Once a minute and partition, when its tick is used up: no ordinary batch pays for it."""
    last_seq = {one.slice.partition: one.slice.apply_seq + one.slice.size for one in work.decoded}
    for number, tick in work.ticks:
        await take_snapshots(connection, number, tick.at, last_seq[number])


async def _load(connection: AsyncConnection, machine_ids: Set[MachineId], into: dict[MachineId, MachineState]) -> None:
    encoded = await load_states(connection, machine_ids)
    into.update((machine_id, decode_state(state)) for machine_id, state in encoded.items())


def _machines_of(one: Decoded) -> Iterator[MachineId]:
    for ping in one.pings:
        if not isinstance(ping.content, Rejected):
            yield ping.content.machine_id
    for command in one.commands:
        if not isinstance(command.content, Rejected | TickSignal):
            yield machine_of(command.content)


def _commands_of(decoded: list[Decoded]) -> list[tuple[MachineId, UUID]]:
    return [
        (machine_of(command.content), command.content.command_id)
        for one in decoded
        for command in one.commands
        if not isinstance(command.content, Rejected | TickSignal)
    ]


def _possible_repeats(decoded: list[Decoded], states: Mapping[MachineId, MachineState]) -> Iterator[PingKey]:
    """Pings not newer than all of their machine: with one writer per machine no other can be a repeat."""
    newest: dict[MachineId, datetime] = {}
    for one in decoded:
        for ping in one.pings:
            content = ping.content
            if isinstance(content, Rejected) or content.machine_id not in states:
                continue
            latest = newest.get(content.machine_id) or states[content.machine_id].newest_recorded_at
            if latest is not None and content.recorded_at <= latest:
                yield (content.machine_id, content.recorded_at, ping.dedupe)
            else:
                newest[content.machine_id] = content.recorded_at
