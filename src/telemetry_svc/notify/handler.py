"""What notify does with a batch of the two alert topics: decode, decide, store, within the consumer's fence.

It keeps nothing between batches, so there is nothing to drop: the open tasks are read under lock each time.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.clock import Clock
from telemetry_svc.codec import cloudevent
from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.events import Alert
from telemetry_svc.notify.notifier import Notifier
from telemetry_svc.stream.batch import Batch, Record, appended_at
from telemetry_svc.stream.dead_letters import Refused, bury


class Work(Struct, frozen=True):
    """A decoded batch: alerts with their records, and what was no alert."""

    records: list[Record]
    alerts: list[Alert]
    refused: list[Refused]


class NotifyHandler:
    """The `Handler` of the group `telemetry-notify`."""

    def __init__(self, notifier: Notifier, clock: Clock) -> None:
        self._notifier = notifier
        self._clock = clock

    async def prepare(self, batch: Batch) -> Work:
        work = Work([], [], [])
        for record, content in _decoded(batch):
            if isinstance(content, Rejected):
                work.refused.append(Refused(record, appended_at(record), content))
            else:
                work.records.append(record)
                work.alerts.append(content)
        return work

    async def apply(self, connection: AsyncConnection, work: Work) -> None:
        senseless = await self._notifier.apply(connection, work.alerts, self._clock.now())
        refused = [_refused(work, one.place, one.message) for one in senseless]
        await bury(connection, [*work.refused, *refused])

    def committed(self, work: Work) -> None:
        """Nothing is cached."""

    def dropped(self) -> None:
        """Nothing is cached."""

    def wants_turn(self) -> Mapping[int, int]:
        return {}

    def takes(self) -> int | None:
        return None

    def held_because(self) -> str | None:
        return None


def _decoded(batch: Batch) -> Iterator[tuple[Record, Alert | Rejected]]:
    poison = None if batch.poison is None else rejected(ErrorClass.INTERNAL, batch.poison)
    for record in batch.records():
        yield record, poison or cloudevent.decode(record.value)


def _refused(work: Work, place: int, message: str) -> Refused:
    record = work.records[place]
    why = rejected(ErrorClass.INVALID, message)
    return Refused(record, appended_at(record), why, work.alerts[place].machine_id)
