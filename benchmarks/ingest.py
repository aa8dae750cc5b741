"""`make bench`: how fast pings become durable, against the limit that the machine itself sets in the same run.

N pings lie in the real broker; then are timed: reading them all (bare consume), writing them all (bare COPY into a
plain logged table without a key; into the keyed one beside it), and the real ingest until all are durable. The limit
is that of one after the other: 1 / (1/consume + 1/copy).
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncTransaction

from telemetry_svc import topics
from telemetry_svc.app import Role, Service, Wiring
from telemetry_svc.cli.running import run
from telemetry_svc.cli.sending import send_pings
from telemetry_svc.cli.simulated import register_fleet, values
from telemetry_svc.codec import ping as ping_codec
from telemetry_svc.embedded import start_embedded
from telemetry_svc.ingest import desk, writing
from telemetry_svc.ingest import handler as ingest_handler
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.store import history
from telemetry_svc.store.history import StoredPing
from telemetry_svc.store.migrate import upgrade
from telemetry_svc.stream import consumer as stream_consumer
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from telemetry_svc.stream.topics import PARTITIONS, ensure_topics
from telemetry_svc.telemetry import Ping

BATCH = 5_000
COPY_SAMPLE = 200_000
MEMBERS_START_S = 8.0


class Stages:
    """Seconds spent in each named part of ingest, by wall clock; parts that await are overlapped by the others."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.calls[name] = self.calls.get(name, 0) + 1

    def sync(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.timed(name):
                return function(*args, **kwargs)

        return wrapped

    def awaited(self, name: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.timed(name):
                return await function(*args, **kwargs)

        return wrapped


@contextmanager
def watched(stages: Stages) -> Iterator[None]:
    """Ingest with a stop-watch at each of its steps, for the time of the block."""
    member = stream_consumer.FencedConsumer
    patches: list[tuple[Any, str, str, bool]] = [
        (member, "_fetch", "fetch and decode (overlaps the transaction)", True),
        (ingest_handler, "decode_batch", "  of that: decode", False),
        (member, "_store_once", "transaction", True),
        (stream_consumer, "advance", "  fence", True),
        (ingest_handler, "load_states", "  load states", True),
        (ingest_handler, "known_pings", "  look up repeats", True),
        (desk.Desk, "decide", "  rules", False),
        (AsyncTransaction, "__aexit__", "  COMMIT", True),
        (writing, "add_pings", "  COPY pings", True),
        (writing, "_state_rows", "  encode states", False),
        (writing, "save_states", "  save states", True),
        (writing, "raise_events", "  events and outbox", True),
    ]
    with ExitStack() as stack:
        for owner, name, label, is_async in patches:
            original = getattr(owner, name)
            wrapped = stages.awaited(label, original) if is_async else stages.sync(label, original)
            stack.enter_context(mock.patch.object(owner, name, wrapped))
        yield


@asynccontextmanager
async def bench_service() -> AsyncIterator[tuple[Service, KafkaSettings, str]]:
    """An ingest service on embedded parts of its own, durable as in production."""
    home = Path(tempfile.mkdtemp(prefix="telemetry-bench-"))
    home.chmod(0o755)
    try:
        async with start_embedded(home, durable=True) as parts:
            kafka = KafkaSettings(parts.kafka_bootstrap)
            wiring = Wiring(
                roles=frozenset({Role.INGEST}),
                database_url=parts.database_url,
                kafka=kafka,
                policies=load_policies(None),
                keyring=Keyring.parse(new_keyring_text()),
                http_port=0,
            )
            service = Service(wiring)
            await upgrade(service.engine)
            await ensure_topics(kafka, replication=1)
            yield service, kafka, parts.database_url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def fleet_of(pings: int, machines: int) -> Fleet:
    """A fleet of so many machines that sends at least so many pings, all of them in the past."""
    per_machine = pings / machines
    hours = max(24.0, per_machine / 40 * 24 * 1.5)
    now = datetime.now(UTC).replace(microsecond=0)
    spec = FleetSpec(
        seed=7,
        machines=machines,
        start=now - timedelta(hours=hours + 1),
        hours=hours,
        duplicates=0.01,
        late=0.02,
        faults=0.05,
        ping_every_s=900,
        idle_every_s=7200,
    )
    return build_fleet(spec)


async def preload(kafka: KafkaSettings, fleet: Fleet, pings: int) -> int:
    """Writes the pings to the topic; returns how many there were."""

    def first() -> Iterator[tuple[str, bytes]]:
        for number, one in enumerate(values(fleet)):
            if number == pings:
                return
            yield one

    return await send_pings(kafka, first(), lambda sent: print(f"\r  {sent} pings preloaded", end="", flush=True))


async def bare_consume(kafka: KafkaSettings, pings: int) -> tuple[float, list[bytes]]:
    """Records per second of reading the topic and doing nothing; and a sample of the values."""
    consumer = AIOKafkaConsumer(**client_options(kafka, "bench"), max_partition_fetch_bytes=2 * 1024 * 1024)
    await consumer.start()
    try:
        pairs = [TopicPartition(topics.PINGS, number) for number in range(PARTITIONS)]
        consumer.assign(pairs)
        await consumer.seek_to_beginning(*pairs)
        sample: list[bytes] = []
        count = 0
        start = time.perf_counter()
        while count < pings:
            for records in (await consumer.getmany(timeout_ms=1_000, max_records=BATCH)).values():
                count += len(records)
                if len(sample) < COPY_SAMPLE:
                    sample.extend(record.value or b"" for record in records)
        return count / (time.perf_counter() - start), sample
    finally:
        await consumer.stop()


async def bare_copy(engine: AsyncEngine, values_: list[bytes], *, keyed: bool) -> float:
    """Rows per second of COPY and COMMIT alone, in batches of 5 000, of the same rows that ingest writes."""
    table = "ping_outlier" if keyed else "bench_plain"
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE IF EXISTS bench_plain"))
        await connection.execute(text("CREATE TABLE bench_plain (LIKE ping)"))
    seconds = 0.0
    rows = 0
    for start in range(0, len(values_), BATCH):
        batch = _rows_of(values_[start : start + BATCH], start)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            begin = time.perf_counter()
            await history.add_pings(connection, table, batch)
            await connection.commit()
            seconds += time.perf_counter() - begin
        rows += len(batch)
    async with engine.begin() as connection:
        await connection.execute(text(f"TRUNCATE {table}"))
    return rows / seconds


def _rows_of(raw: list[bytes], first: int) -> list[StoredPing]:
    now = datetime.now(UTC)
    decoded = [ping for ping in map(ping_codec.decode, raw) if isinstance(ping, Ping)]
    return [StoredPing(ping, first + n, now, False, 0, first + n, first + n) for n, ping in enumerate(decoded)]


@asynccontextmanager
async def held_back(service: Service) -> AsyncIterator[None]:
    """Holds the lock that every member needs before it joins the group, so that all of them start at once."""
    async with service.engine.connect() as connection, connection.begin():
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('ping partitions'))"))
        yield
        await asyncio.sleep(MEMBERS_START_S)


@asynccontextmanager
async def more_members(count: int, database_url: str, kafka: KafkaSettings) -> AsyncIterator[None]:
    """So many `telemetry-svc ingest` processes beside our own."""
    settings = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP": kafka.bootstrap, "HTTP_PORT": "0"}
    settings |= {"PERSONAL_DATA_KEYS": new_keyring_text(), "LOG_LEVEL": "ERROR"}
    environment = os.environ | {f"TELEMETRY_{name}": value for name, value in settings.items()}
    command = (sys.executable, "-m", "telemetry_svc", "ingest")
    processes = [
        await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            await process.wait()


async def ingest_all(service: Service, pings: int) -> float:
    """Seconds until every ping is durable: stored as new, or known as a repeat."""
    stop = asyncio.Event()
    async with held_back(service):
        running = asyncio.create_task(service.run(stop))
    start = 0.0
    base = 0
    try:
        while True:
            async with service.engine.connect() as connection:
                read = int((await connection.execute(READ)).scalar_one())
            if read and not start:
                start = time.perf_counter()
                base = read
            if read >= pings:
                return (time.perf_counter() - start) * pings / max(1, pings - base)
            if running.done():
                await running
            await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running


READ = text("SELECT coalesce(sum(next_offset_a), 0)::bigint FROM partition_owner WHERE group_name = 'telemetry-ingest'")
_SETTINGS = text(
    "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') ORDER BY 1"
)


async def bench(pings: int, machines: int, members: int, out: Path | None) -> None:
    """One run, printed and, where asked, written as JSON."""
    async with bench_service() as (service, kafka, database_url):
        async with service.engine.connect() as connection:
            durable = {row[0]: row[1] for row in await connection.execute(_SETTINGS)}
        cores = os.cpu_count()
        print(f"{pings} pings of {machines} machines, {members} ingest processes, {cores} cores; PostgreSQL {durable}")
        fleet = fleet_of(pings, machines)
        await register_fleet(service, fleet)
        sent = await preload(kafka, fleet, pings)
        print()
        consume, sample = await bare_consume(kafka, sent)
        copy = await bare_copy(service.engine, sample, keyed=False)
        keyed = await bare_copy(service.engine, sample, keyed=True)
        stages = Stages()
        async with more_members(members - 1, database_url, kafka):
            with watched(stages):
                cpu = time.process_time()
                seconds = await ingest_all(service, sent)
                stages.seconds["CPU of the first ingest process"] = time.process_time() - cpu
                stages.calls["CPU of the first ingest process"] = 1
            own = service.registry.get_sample_value("telemetry_records_total", {"group": topics.INGEST_GROUP})
        report(Measured(sent, int(own or sent), seconds, consume, copy, keyed), stages, out)


class Measured(NamedTuple):
    """What a run came to: pings in all and those of the first process, seconds, and rates per second."""

    pings: int
    own_pings: int
    seconds: float
    consume: float
    copy: float
    copy_keyed: float


def report(run: Measured, stages: Stages, out: Path | None) -> None:
    """Prints rates, the ratio to the limit, and where the time went."""
    rate, limit = run.pings / run.seconds, 1 / (1 / run.consume + 1 / run.copy)
    print(f"bare consume        {run.consume:>10,.0f} /s")
    print(f"bare COPY           {run.copy:>10,.0f} /s   (keyed table: {run.copy_keyed:,.0f} /s)")
    print(f"limit               {limit:>10,.0f} /s   = 1 / (1/consume + 1/COPY)")
    print(f"ingest              {rate:>10,.0f} pings/s   ratio to the limit {rate / limit:.2f}")
    print(f"where {run.seconds:.1f} s go in the first process, for its {run.own_pings} pings:")
    for name, spent in stages.seconds.items():
        calls, per_ping = stages.calls[name], spent / run.own_pings * 1e6
        print(f"  {name:<46} {spent:7.2f} s  {calls:>7} times  {per_ping:6.1f} us/ping")
    if out is not None:
        figures = run._asdict() | {"pings_per_s": rate, "limit_per_s": limit, "ratio": rate / limit}
        out.write_text(json.dumps(figures | {"stages_s": stages.seconds}, indent=1))
        print(f"written to {out}")


def main() -> None:
    """Entry point of `make bench`."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--pings", type=int, default=500_000)
    parser.add_argument("--machines", type=int, default=2_000)
    parser.add_argument("--json", type=Path, default=Path("bench-ingest.json"), help="where the figures go")
    parser.add_argument("--members", type=int, default=2, help="ingest processes; the first one is measured by stage")
    given = parser.parse_args()
    run(bench(given.pings, given.machines, given.members, given.json))


if __name__ == "__main__":
    main()
