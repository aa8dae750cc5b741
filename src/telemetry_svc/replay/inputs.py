"""A machine's stored inputs in the order of decision, each with how far time had surely passed before it.

Time has passed up to the next record that is still to be decided, never further: ingest too applies a tick only when
all that was received before it is read (design.md, decision 5), else a backlog would look like silence. A ping that was
received before one already decided (a dead letter taken up later) says nothing about the time.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.codec import command as command_codec
from telemetry_svc.codec.command import TickSignal
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.store.replay_rows import StoredCommand, StoredReading, applied_commands, stored_readings
from telemetry_svc.telemetry import Command, MachineId, Reading

_EVER = datetime.max.replace(tzinfo=UTC)
_NEVER_YET = datetime.min.replace(tzinfo=UTC)


class BadCommand(RuntimeError):
    """A stored command is none that this version knows. The text says which and why."""


class Due(Struct, frozen=True, gc=False):
    """An input, and the moment (broker's clock) up to which time had passed before it was decided."""

    given: Reading | Command
    passed: datetime


class _Placed(Struct, frozen=True, gc=False):
    apply_seq: int
    due: Due


async def inputs(connection: AsyncConnection, machine_id: MachineId, after_seq: int) -> AsyncIterator[Due]:
    """Everything decided after `after_seq`, commands before pings of the same place. Raises `BadCommand`."""
    commands = _placed_commands(await applied_commands(connection, machine_id, after_seq))
    place = 0
    async for ping in foreseen(stored_readings(connection, machine_id, after_seq)):
        while place < len(commands) and commands[place].apply_seq <= ping.apply_seq:
            yield _earlier(commands[place].due, ping.due.passed)
            place += 1
        yield _earlier(ping.due, commands[place].due.passed) if place < len(commands) else ping.due
    for command in commands[place:]:
        yield command.due


def command_of(stored: StoredCommand) -> Command:
    """The command as ingest was given it. Raises `BadCommand`."""
    command = command_codec.from_body(stored.body, stored.received_at)
    match command:
        case Rejected(message=message):
            raise BadCommand(f"the stored {stored.kind} of {stored.received_at:%FT%TZ} cannot be read: {message}")
        case TickSignal():
            raise BadCommand(f"the stored {stored.kind} of {stored.received_at:%FT%TZ} is a tick")
        case _:
            return command


def _placed_commands(stored: Sequence[StoredCommand]) -> list[_Placed]:
    placed, next_at = [], _EVER
    for one in reversed(stored):
        next_at = min(next_at, one.received_at)
        placed.append(_Placed(one.apply_seq, Due(command_of(one), next_at)))
    return placed[::-1]


def _earlier(due: Due, passed: datetime) -> Due:
    return due if due.passed <= passed else Due(due.given, passed)


async def foreseen(pages: AsyncIterator[Sequence[StoredReading]]) -> AsyncIterator[_Placed]:
    """Each ping with the next one's `received_at` that tells the time: looks one page ahead."""
    newest = _NEVER_YET
    held: list[tuple[StoredReading, bool]] = []
    async for page in pages:
        marked = []
        for one in page:
            tells_time = one.reading.received_at >= newest
            newest = max(newest, one.reading.received_at)
            marked.append((one, tells_time))
        for placed in _with_horizon(held, _first(marked)):
            yield placed
        held = marked
    for placed in _with_horizon(held, _EVER):
        yield placed


def _first(marked: Iterable[tuple[StoredReading, bool]]) -> datetime:
    return next((one.reading.received_at for one, tells_time in marked if tells_time), _NEVER_YET)


def _with_horizon(marked: Sequence[tuple[StoredReading, bool]], after: datetime) -> Iterator[_Placed]:
    placed, horizon = [], after
    for one, tells_time in reversed(marked):
        if tells_time:
            horizon = one.reading.received_at
        placed.append(_Placed(one.apply_seq, Due(one.reading, horizon)))
    return reversed(placed)
