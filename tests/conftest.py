"""The real parts, started once per run: a PostgreSQL and a Kafka broker on loopback, migrated and with their topics.

Where TELEMETRY_DATABASE_URL / TELEMETRY_KAFKA_BOOTSTRAP are set, those are used: a database of our own name is made in
the one, and the topics of the other are emptied.
"""

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from hypothesis import HealthCheck, settings
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.embedded import start_embedded
from telemetry_svc.embedded.postgres import PostgresServer
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.migrate import upgrade
from telemetry_svc.store.schema import metadata
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from telemetry_svc.stream.topics import ALL_TOPICS, PARTITIONS, ensure_topics

SCALE = float(os.environ.get("TELEMETRY_TEST_SCALE", "1"))
"""One setting for how much the random tests do: 10 for a long night, 0.2 for a quick look."""

settings.register_profile(
    "shared_cores",
    deadline=None,
    max_examples=max(10, int(100 * SCALE)),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.load_profile("shared_cores")


def pytest_configure(config: pytest.Config) -> None:
    """Two workers would empty the topics under each other."""
    if os.environ.get("TELEMETRY_KAFKA_BOOTSTRAP") and config.getoption("numprocesses", None):
        raise pytest.UsageError("TELEMETRY_KAFKA_BOOTSTRAP is one broker for all: run with WORKERS=0")


Records = list[ConsumerRecord[bytes | None, bytes | None]]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A search runs without coverage's tracer. (In a worker of xdist there are two; `no_cover` would stop one.)"""
    tracer = sys.gettrace()
    if item.get_closest_marker("uncounted"):
        sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


class Servers(NamedTuple):
    """The servers of this run. `postgres` where it is our own: only then there is a superuser to ask."""

    database_url: str
    bootstrap: str
    postgres: PostgresServer | None

    async def create_database(self, name: str, template: str = "template1") -> str:
        """A database of the service's role, from a template in which nobody is; returns its URL."""
        if self.postgres is not None:
            return await self.postgres.create_database(name, template)
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return make_url(self.database_url).set(database=name).render_as_string(hide_password=False)

    async def drop_database(self, name: str) -> None:
        """With the sessions in it."""
        if self.postgres is not None:
            await self.postgres.drop_database(name)
        else:
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _execute(self, statement: str) -> None:
        admin = create_engine(self.database_url, application_name="tests-admin")
        async with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text(statement))
        await admin.dispose()


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """Those that the settings name; ours in the place of those that they do not."""
    database_url = os.environ.get("TELEMETRY_DATABASE_URL")
    bootstrap = os.environ.get("TELEMETRY_KAFKA_BOOTSTRAP")
    if database_url and bootstrap:
        yield Servers(database_url, bootstrap, None)
        return
    data_dir = Path(tempfile.mkdtemp(prefix="telemetry-tests-"))
    data_dir.chmod(0o755)  # as root, PostgreSQL runs as a user who must be able to enter it
    try:
        async with start_embedded(data_dir, postgres=not database_url, kafka=not bootstrap) as services:
            own = None if database_url else services.postgres
            yield Servers(database_url or services.database_url, bootstrap or services.kafka_bootstrap, own)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
async def parts(servers: Servers) -> tuple[str, str]:
    """(database URL, Kafka bootstrap) of the servers of this run."""
    return servers.database_url, servers.bootstrap


@pytest.fixture(scope="session")
async def database_url(servers: Servers) -> AsyncIterator[str]:
    """A migrated database of this run's own: the embedded one, which is new, or one made in the given server."""
    if servers.postgres is not None:
        await _migrate(servers.database_url)
        yield servers.database_url
        return
    name = f"telemetry_test_{uuid.uuid4().hex[:8]}"
    url = await servers.create_database(name)
    await _migrate(url)
    yield url
    await servers.drop_database(name)


async def _migrate(url: str) -> None:
    engine = create_engine(url, application_name="tests-migrate")
    await upgrade(engine)
    await engine.dispose()


@pytest.fixture(scope="session")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on this run's database. A machine that stands still for ten seconds costs none of its transactions."""
    engine = create_engine(database_url, application_name="tests", pool_size=60)
    event.listen(engine.sync_engine, "do_connect", _be_patient)
    yield engine
    await engine.dispose()


def _be_patient(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    parameters["server_settings"] |= {"idle_in_transaction_session_timeout": "60s"}


@pytest.fixture
async def clean_database(engine: AsyncEngine) -> None:
    """Every table empty, as after the first migration."""
    await empty_database(engine)


async def empty_database(engine: AsyncEngine) -> None:
    """The same for fixtures of another scope."""
    names = [table.name for table in metadata.sorted_tables if table.name != "outbox_bucket"]
    async with engine.begin() as connection:
        await connection.execute(text(f"TRUNCATE {', '.join(names)} RESTART IDENTITY CASCADE"))


@pytest.fixture(scope="session")
async def kafka_bootstrap(parts: tuple[str, str]) -> str:
    """Address of a broker that has our topics."""
    await ensure_topics(KafkaSettings(parts[1]), replication=1)
    return parts[1]


@pytest.fixture(scope="session")
def kafka(kafka_bootstrap: str) -> KafkaSettings:
    """Settings for the run's broker."""
    return KafkaSettings(kafka_bootstrap)


@pytest.fixture
async def clean_topics(kafka: KafkaSettings) -> None:
    """Every topic empty: its first offset is its end."""
    await empty_topics(kafka)


async def empty_topics(kafka: KafkaSettings) -> None:
    """The same for fixtures of another scope."""
    ends = await ends_of(kafka, [spec.name for spec in ALL_TOPICS])
    admin = AIOKafkaAdminClient(**client_options(kafka, "tests"))
    await admin.start()
    try:
        await admin.delete_records({pair: RecordsToDelete(before_offset=end) for pair, end in ends.items() if end})
    finally:
        await admin.close()


async def ends_of(kafka: KafkaSettings, names: Sequence[str]) -> dict[TopicPartition, int]:
    """Where each partition of these topics ends. A consumer that is told its topics late waits 0.1 s for each."""
    async with AIOKafkaConsumer(*names, **client_options(kafka, "tests")) as consumer:
        pairs = [TopicPartition(name, number) for name in names for number in range(PARTITIONS)]
        return dict(await consumer.end_offsets(pairs))


async def read_topic(kafka: KafkaSettings, name: str, partitions: int = PARTITIONS) -> Records:
    """All records of a topic, partition by partition."""
    pairs = [TopicPartition(name, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(name, **client_options(kafka, "tests"), auto_offset_reset="earliest")
    async with consumer:
        ends = await consumer.end_offsets(pairs)
        records: Records = []
        while any([await consumer.position(pair) < ends[pair] for pair in pairs]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records.extend(batch)
        return sorted(records, key=lambda record: (record.partition, record.offset))


def client_tasks() -> list[str]:
    """Background tasks of Kafka clients: those of a client that was never stopped stay."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return sorted(name for name in names if name.startswith(("AIOKafka", "Sender", "MessageAccumulator")))


@pytest.fixture
def unused_port() -> int:
    """A loopback port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have to tell beside that they passed (`record_property("told", …)`), also from other processes."""
    for report in terminalreporter.getreports("passed"):
        for name, what in report.user_properties:
            if name == "told":
                terminalreporter.write_line(f"{report.nodeid.partition('::')[2]}: {what}")
