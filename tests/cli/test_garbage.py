"""Garbage as large as the broker takes costs ingest little memory, and its neighbours nothing (faults.md, 6)."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.stream.kafka import MAX_RECORD_BYTES, KafkaSettings, client_options
from tests.cli.programs import Cli
from tests.conftest import read_topic
from tests.ingest.pipeline import ping, registration

MIB = 1024 * 1024
AT_MOST_MORE_MB = 50
TIMES = 20
MACHINE = "ZE215-000017"
KEY = MACHINE.encode()
BEGINNING = f'{{"machine_id":"{MACHINE}","recorded_at":"2026-11-20T04:20:31Z",'.encode()
GARBAGE = {
    "noise": (b"\x00\xff" * (MIB // 2), "too_large"),
    "levels": (b"[" * MIB, "too_large"),
    "10 000 levels": (b"[" * 10_000, "malformed"),
    "NaN": (BEGINNING + b'"hour_meter_h":NaN}', "malformed"),
    "NUL": (BEGINNING + rb'"device_id":"a\u0000b"}', "invalid"),
    "UTF-8": (BEGINNING + b'"who":"\xff"}', "malformed"),
    "at the limit": (b"x" * (MAX_RECORD_BYTES - 1024), "too_large"),
}


class Scales:
    """The most that a process held, as seen fifty times a second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak_mb = 0.0

    async def weigh(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / MIB)
            await asyncio.sleep(0.02)


async def test_one_dead_letter_each_and_little_memory(
    cli: Cli,
    home: Path,
    kafka: KafkaSettings,
    database_url: str,
    engine: AsyncEngine,
    clean_database: None,
    clean_topics: None,
) -> None:
    settings: dict[str, Any] = {"database_url": database_url, "kafka_bootstrap": kafka.bootstrap}
    settings |= {"topic_replication": 1, "personal_data_keys": new_keyring_text()}
    options = client_options(kafka, "tests") | {"acks": "all", "max_request_size": MAX_RECORD_BYTES}
    with cli.started("ingest", home=home, **settings) as ingest:
        scales = Scales(ingest.pid)
        async with AIOKafkaProducer(**options) as producer:
            await producer.send_and_wait(topics.COMMANDS, registration(MACHINE), key=KEY)
            await producer.send_and_wait(
                topics.PINGS, ping(MACHINE, "2026-11-20T04:20:30Z", hour_meter_h=49.99), key=KEY
            )
            await _until(engine, "SELECT count(*) FROM ping", 1)
            weighing = asyncio.create_task(scales.weigh())
            await asyncio.sleep(0.1)
            before_mb = scales.peak_mb
            for number in range(TIMES):
                good = ping(MACHINE, f"2026-11-20T05:20:{number:02}Z", hour_meter_h=50)
                for value in (*(value for value, _ in GARBAGE.values()), good):
                    await producer.send(topics.PINGS, value, key=KEY)
            await producer.flush()
        await _until(engine, "SELECT count(*) FROM ping", TIMES + 1)
        await _until(engine, f"{_SENT} AND topic = '{topics.DEAD_LETTERS}'", TIMES * len(GARBAGE))
        weighing.cancel()
        assert 0 < scales.peak_mb - before_mb < AT_MOST_MORE_MB
    letters = await read_topic(kafka, topics.DEAD_LETTERS)
    classes = Counter(dict(letter.headers)["x-error-class"].decode() for letter in letters)
    expected = Counter(error_class for _, error_class in GARBAGE.values())
    assert classes == {error_class: TIMES * number for error_class, number in expected.items()}


_SENT = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL"


async def _until(engine: AsyncEngine, query: str, number: int) -> None:
    """Until the query tells this number."""
    async with asyncio.timeout(60), engine.connect() as connection:
        line = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while (found := await line.scalar(text(query))) < number:  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)
    assert found == number
