"""Records that were refused: one row each, in the transaction of the batch that met them, and out by the outbox."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.store.dead_letters import HEADER_LIMIT, VALUE_LIMIT, DeadLetter, add_dead_letters
from telemetry_svc.store.outbox import OutboxMessage, enqueue
from telemetry_svc.stream.batch import Record
from telemetry_svc.telemetry import MachineId
from telemetry_svc.units import rfc3339_ms


class Refused(Struct, frozen=True):
    """A record on its way to the dead letters; `machine_id` where it could be read."""

    record: Record
    received_at: datetime
    why: Rejected
    machine_id: MachineId | None = None


async def bury(connection: AsyncConnection, refused: Sequence[Refused]) -> None:
    """Writes the letters into the batch's transaction, the new ones also to the outbox (design.md, decision 16)."""
    if not refused:
        return
    letters = [dead_letter(one) for one in refused]
    new = await add_dead_letters(connection, letters)
    await enqueue(
        connection,
        [dead_letter_message(letter) for letter in letters if (letter.topic, letter.partition, letter.offset) in new],
    )


def dead_letter(one: Refused) -> DeadLetter:
    """The original bytes, cut where they are too long, and why they were refused."""
    record = one.record
    value = record.value
    cut = value is not None and len(value) > VALUE_LIMIT
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error_class=one.why.error_class,
        error_message=one.why.message,
        timestamp=one.received_at,
        key=None if record.key is None else record.key[:HEADER_LIMIT],
        value=value[:VALUE_LIMIT] if value is not None and cut else value,
        original_length=len(value) if value is not None and cut else None,
        headers=tuple((name[:HEADER_LIMIT], content and content[:HEADER_LIMIT]) for name, content in record.headers),
        machine_id=one.machine_id,
    )


def dead_letter_message(letter: DeadLetter) -> OutboxMessage:
    """The record for `excavator.dead-letters` (contract.md, Topics): the original first, our headers after it."""
    reasons = {
        "x-error-class": letter.error_class,
        "x-error-message": letter.error_message,
        "x-original-topic": letter.topic,
        "x-original-partition": str(letter.partition),
        "x-original-offset": str(letter.offset),
        "x-original-timestamp": rfc3339_ms(letter.timestamp),
    }
    if letter.original_length is not None:
        reasons["x-original-length"] = str(letter.original_length)
    ours = tuple((name, text.encode()) for name, text in reasons.items())
    key = letter.key
    return OutboxMessage(
        topics.DEAD_LETTERS, key, letter.value, letter.headers + ours, None if key is not None else letter.partition
    )
