"""A relay that is killed between the broker's ack and the mark in the database; a program: URL and broker are named."""

import asyncio
import os
import signal
import sys

from prometheus_client import CollectorRegistry

from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream import relay as relaying
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.metrics import RelayMetrics


async def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(database_url: str, bootstrap: str) -> None:
    setattr(relaying, "mark_sent", die)  # noqa: B010 - mypy would have it exported
    engine = create_engine(database_url, application_name="tests-dying-relay")
    relay = relaying.OutboxRelay(
        kafka=KafkaSettings(bootstrap), engine=engine, metrics=RelayMetrics(CollectorRegistry())
    )
    await relay.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
