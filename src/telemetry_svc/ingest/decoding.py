"""A batch's records as nouns: the one CPU-bound pass that runs while the batch before is being stored."""

from datetime import datetime

from msgspec import Struct

from telemetry_svc import topics
from telemetry_svc.codec import command as command_codec
from telemetry_svc.codec import ping as ping_codec
from telemetry_svc.codec.command import TickSignal
from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.store.dead_letters import WaitingRecord
from telemetry_svc.store.history import PingKey
from telemetry_svc.stream.batch import APPEND_TIME, Batch, Record, Slice, appended_at
from telemetry_svc.stream.topics import WrongClockError
from telemetry_svc.telemetry import Command, Ping


class PingRecord(Struct, frozen=True, gc=False):
    """A ping with where it came from; `dedupe` is 0 where it was refused."""

    record: Record
    received_at: datetime
    content: Ping | Rejected
    dedupe: int


class CommandRecord(Struct, frozen=True, gc=False):
    """A command or a tick with where it came from."""

    record: Record
    received_at: datetime
    content: Command | TickSignal | Rejected


class Decoded(Struct, frozen=True):
    """One slice of a batch after decoding, in order of offset."""

    slice: Slice
    pings: list[PingRecord]
    commands: list[CommandRecord]


def decode_batch(batch: Batch) -> list[Decoded]:
    """Every record of the batch as a noun or a named refusal. Never raises for what a record holds.

    Raises `WrongClockError` for a time that is not the broker's: nothing can be decided by it.
    """
    poison = None if batch.poison is None else rejected(ErrorClass.INTERNAL, batch.poison)
    clock = _AppendTimes()
    return [
        Decoded(
            one,
            [decode_ping(record, clock.of(record), poison) for record in one.first],
            [decode_command(record, clock.of(record), poison) for record in one.second],
        )
        for one in batch.slices
    ]


class _AppendTimes:
    """Records of one produced batch share their append time: each is turned into a datetime, and looked at, once."""

    def __init__(self) -> None:
        self._known: dict[int, datetime] = {}

    def of(self, record: Record) -> datetime:
        moment = self._known.get(record.timestamp)
        if moment is None:
            if record.timestamp_type != APPEND_TIME:
                raise WrongClockError(
                    f"{record.topic} partition {record.partition} offset {record.offset} has its producer's time for "
                    "the broker's: set message.timestamp.type to LogAppendTime; docs/recovery.md says what becomes of "
                    "such records"
                )
            moment = self._known[record.timestamp] = appended_at(record)
        return moment


def decode_waiting(record: WaitingRecord, poison: Rejected | None = None) -> PingRecord | CommandRecord:
    """A record that waited in the database, as it was received."""
    decode = decode_command if record.topic == topics.COMMANDS else decode_ping
    return decode(record, record.received_at, poison)


def decode_ping(record: Record, received_at: datetime, poison: Rejected | None = None) -> PingRecord:
    """One record of the ping topic, or of its dead letters."""
    content = poison or ping_codec.decode(record.value)
    if isinstance(content, Rejected):
        return PingRecord(record, received_at, content, 0)
    return PingRecord(record, received_at, content, ping_codec.dedupe_number(content))


def decode_command(record: Record, received_at: datetime, poison: Rejected | None = None) -> CommandRecord:
    """One record of the command topic, or of its dead letters."""
    return CommandRecord(record, received_at, poison or command_codec.decode(record.value, received_at))


def ping_key(one: PingRecord) -> PingKey | None:
    """What makes it the same ping as another; None for a refused one."""
    content = one.content
    return None if isinstance(content, Rejected) else (content.machine_id, content.recorded_at, one.dedupe)
