"""A group member that stops itself (SIGSTOP) with its first batch in hand; a program: where, then how to reach what.

`inside` is between the fence and the commit, `before` between reading and the fence, `telling` between the commit and
that of Kafka. At SIGTERM it leaves; its counters are the last line it prints.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream.batch import Batch
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from tests.stream.rig import Probe, Rig


class Sleeper:
    """Stops the process at the first batch with records, once."""

    def __init__(self) -> None:
        self.slept = False

    async def inside(self, _connection: AsyncConnection, batch: Batch) -> None:
        self._stop_at(batch)

    async def before(self, batch: Batch) -> None:
        self._stop_at(batch)

    def telling(self, offsets: dict[TopicPartition, int]) -> None:
        """In the place of what tells Kafka how far has been stored."""
        if any(offsets.values()):
            os.kill(os.getpid(), signal.SIGSTOP)

    def _stop_at(self, batch: Batch) -> None:
        if batch.size and not self.slept:
            self.slept = True
            os.kill(os.getpid(), signal.SIGSTOP)


async def main(where: str, database_url: str, bootstrap: str, group: str, first: str, second: str) -> None:
    engine = create_engine(database_url, application_name="tests-zombie")
    kafka = KafkaSettings(bootstrap)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    rig = Rig(kafka, engine, AIOKafkaProducer(**client_options(kafka, "unused")), group, (first, second))
    sleeper = Sleeper()
    hooks: dict[str, Any] = {name: getattr(sleeper, name) for name in ("inside", "before") if name == where}
    async with rig.member(probe=Probe(group, **hooks)) as member:
        if where == "telling":
            member.consumer._hints.tell = sleeper.telling  # type: ignore[method-assign]
        await told.wait()
    await rig.producer.stop()
    await engine.dispose()
    print(json.dumps({name: member.counted(name) for name in ("fenced_batches", "failed_batches", "records")}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
