"""`make backlog`: the memory of an ingest process while it reads a long backlog.

So many pings lie in the real broker before one `telemetry-svc ingest` starts. Its resident memory is read every second
until all of them are durable, and must not grow with what is left to read: the backlog's second half is compared with
its first.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import psutil
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.ingest import READ, bench_service, fleet_of, preload
from telemetry_svc.cli.running import run
from telemetry_svc.cli.simulated import register_fleet
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.stream.kafka import KafkaSettings

LOOK_EVERY_S = 1.0
LINES = 20
MB = 1024 * 1024


class Look(NamedTuple):
    """How far ingest was and what it took, so many seconds after its start."""

    at_s: float
    read: int
    rss_mb: float


@asynccontextmanager
async def ingesting(database_url: str, kafka: KafkaSettings) -> AsyncIterator[psutil.Process]:
    """One `telemetry-svc ingest` until the end of the block."""
    settings = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP": kafka.bootstrap, "HTTP_PORT": "0"}
    settings |= {"PERSONAL_DATA_KEYS": new_keyring_text(), "LOG_LEVEL": "ERROR"}
    environment = os.environ | {f"TELEMETRY_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telemetry_svc", "ingest", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def looks(engine: AsyncEngine, process: psutil.Process, pings: int) -> list[Look]:
    """One a second until everything is durable."""
    start = time.perf_counter()
    found: list[Look] = []
    while not found or found[-1].read < pings:
        await asyncio.sleep(LOOK_EVERY_S)
        async with engine.connect() as connection:
            read = int((await connection.execute(READ)).scalar_one())
        found.append(Look(time.perf_counter() - start, read, process.memory_info().rss / MB))
    return found


def report(found: Sequence[Look], pings: int) -> None:
    """The curve in some twenty lines, and what it comes to."""
    for look in found[:: max(1, len(found) // LINES)]:
        print(f"  {look.at_s:6.0f} s  {pings - look.read:>9} left  RSS {look.rss_mb:7.1f} MB")
    halves = [[one.rss_mb for one in found if (one.read < pings / 2) == first and one.read] for first in (True, False)]
    peaks = [max(half, default=0.0) for half in halves]
    print(f"RSS at its most: {peaks[0]:.1f} MB in the first half of the backlog, {peaks[1]:.1f} MB in the second")


async def backlog(pings: int, machines: int) -> None:
    """One run, printed."""
    async with bench_service() as (service, kafka, database_url):
        fleet = fleet_of(pings, machines)
        await register_fleet(service, fleet)
        sent = await preload(kafka, fleet, pings)
        print()
        async with ingesting(database_url, kafka) as process:
            report(await looks(service.engine, process, sent), sent)
        await service.engine.dispose()


def main() -> None:
    """Entry point of `make backlog`."""
    parser = argparse.ArgumentParser(prog="make backlog", description=__doc__)
    parser.add_argument("--pings", type=int, default=1_000_000)
    parser.add_argument("--machines", type=int, default=2_000)
    given = parser.parse_args()
    run(backlog(given.pings, given.machines))


if __name__ == "__main__":
    main()
