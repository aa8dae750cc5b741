"""The relay while its broker, its session or itself dies: nothing is lost, the order of first occurrences kept."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from telemetry_svc.embedded import EmbeddedServices, start_embedded
from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream import relay as relaying_module
from telemetry_svc.stream.kafka import KafkaSettings, client_options, partition_of
from tests.conftest import client_tasks
from tests.stream.mail import PARTITIONS, Mailbox, new_mailbox, numbered

DYING_RELAY = Path(__file__).with_name("dying_relay.py")
KEYS = [f"M-{number}" for number in range(6)]


@pytest.fixture
async def mailbox(
    kafka: KafkaSettings, engine: AsyncEngine, admin: AIOKafkaAdminClient, clean_database: None
) -> Mailbox:
    return await new_mailbox(kafka, engine, admin)


async def until_drained(mailbox: Mailbox, timeout_s: float = 40) -> None:
    async with asyncio.timeout(timeout_s):
        while await mailbox.waiting():  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)


async def test_a_relay_killed_between_ack_and_mark_sends_the_same_again(
    mailbox: Mailbox, database_url: str, kafka_bootstrap: str
) -> None:
    for value in numbered(5):
        await mailbox.enqueue(*(mailbox.message(key, value) for key in KEYS))
    dying = await asyncio.create_subprocess_exec(
        sys.executable, str(DYING_RELAY), database_url, kafka_bootstrap, env=dict(os.environ)
    )
    assert await asyncio.wait_for(dying.wait(), 30) == -signal.SIGKILL
    assert len(await mailbox.arrived()) == 30
    assert await mailbox.waiting() == 30
    stop = asyncio.Event()
    relaying = asyncio.create_task(mailbox.relay().run(stop))
    await until_drained(mailbox)
    stop.set()
    await relaying
    arrived = [(one.key, one.value) for one in await mailbox.arrived()]
    assert {pair: arrived.count(pair) for pair in arrived} == {
        (key.encode(), value): 2 for key in KEYS for value in numbered(5)
    }
    for key in KEYS:
        assert await mailbox.values_of(key) == list(numbered(5))


async def test_sessions_that_are_killed_cost_repeats_at_most(mailbox: Mailbox, database_url: str) -> None:
    """Also in the midst of a pass; rows keep coming meanwhile."""
    relay_engine = create_engine(database_url, application_name="tests-relay-victim")
    stop = asyncio.Event()
    relaying = asyncio.create_task(mailbox.relay(engine=relay_engine).run(stop))
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tests-relay-victim'"
    killed = 0
    for value in numbered(40):
        await mailbox.enqueue(*(mailbox.message(key, value) for key in KEYS))
        if value.endswith(b"0"):
            async with mailbox.engine.begin() as connection:
                killed += (await connection.execute(text(kill))).scalar_one()
    await until_drained(mailbox)
    stop.set()
    await relaying
    await relay_engine.dispose()
    assert killed >= 1
    for key in KEYS:
        assert await mailbox.values_of(key) == list(numbered(40))


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServices]:
    """A broker of this test's own, to be killed."""
    async with start_embedded(tmp_path_factory.mktemp("broker"), postgres=False) as services:
        yield services


async def test_a_broker_that_is_away_is_told_once_and_what_waits_goes_out_when_it_is_back(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle pass of a relay beside it proves nothing: the end is told after a calm."""
    monkeypatch.setattr(relaying_module, "BACKOFF_S", 0.01)
    monkeypatch.setattr(relaying_module, "CALM_S", 0.3)
    await mailbox.enqueue(mailbox.message("M-1", b"v"))
    stop, relay = asyncio.Event(), mailbox.relay(KafkaSettings("127.0.0.1:1"))
    with capture_logs() as told:
        relaying = asyncio.create_task(relay.run(stop))
        async with asyncio.timeout(30):
            while relay._trouble._tries < 5:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            relay._kafka = mailbox.kafka
            while len(told) < 2:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        stop.set()
        await relaying
    assert [one["event"] for one in told] == [
        "outbox pass failed, trying again",
        "over: outbox pass failed, trying again",
    ]
    assert (told[0]["reason"], told[1]["tries"] >= 5) == ("KafkaConnectionError", True)
    assert await mailbox.values_of("M-1") == [b"v"]


@pytest.mark.embedded
@pytest.mark.timeout(240)
async def test_a_broker_that_dies_and_comes_back_gets_everything(
    broker: EmbeddedServices, engine: AsyncEngine, clean_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the producers that were given up meanwhile are gone, with their connections and unsent batches."""
    monkeypatch.setattr(relaying_module, "ACK_TIMEOUT_S", 2.0)
    running_before = client_tasks()
    settings = KafkaSettings(broker.kafka_bootstrap)
    admin = AIOKafkaAdminClient(**client_options(settings, "tests"))
    await admin.start()
    mailbox = await new_mailbox(settings, engine, admin)
    await admin.close()
    stop = asyncio.Event()
    relay = mailbox.relay()
    relaying = asyncio.create_task(relay.run(stop))
    values = numbered(30)
    for number, value in enumerate(values):
        await mailbox.enqueue(*(mailbox.message(key, value) for key in KEYS))
        if number == 10:
            await until_drained(mailbox)
            await broker.kafka.kill()
    await broker.kafka.start()
    await until_drained(mailbox, 120)  # a busy machine has taken more than 40 s for the broker to come back
    stop.set()
    await relaying
    for key in KEYS:
        assert await mailbox.values_of(key) == list(values)
    assert client_tasks() == running_before


async def test_what_the_broker_refuses_holds_up_its_partition_alone_and_the_producer_is_built_anew(
    mailbox: Mailbox, admin: AIOKafkaAdminClient
) -> None:
    """The topic takes less than the relay thinks; an idempotent producer that was refused once fails for good."""
    await limit(admin, mailbox.topic, 2_000)
    big = b"b" * 5_000
    held, free = KEYS[0], next(key for key in KEYS if place(key) != place(KEYS[0]))
    await mailbox.enqueue(mailbox.message(held, b"first"))
    stop = asyncio.Event()
    relay = mailbox.relay()
    relaying = asyncio.create_task(relay.run(stop))
    await until_drained(mailbox)
    before = relay._producer
    await mailbox.enqueue(*(mailbox.message(held, value) for value in (big, b"last")), mailbox.message(free, b"free"))
    async with asyncio.timeout(30):
        while await mailbox.waiting() > 2 or relay._producer is before:  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)
    assert [one.value for one in await mailbox.arrived() if one.key == free.encode()] == [b"free"], "once"
    assert await mailbox.values_of(held) == [b"first"]
    await limit(admin, mailbox.topic, 1_048_588)
    await until_drained(mailbox)
    stop.set()
    await relaying
    assert await mailbox.values_of(held) == [b"first", big, b"last"]
    assert [one.value for one in await mailbox.arrived() if one.key == free.encode()] == [b"free"]


def place(key: str) -> int:
    return partition_of(key.encode(), PARTITIONS)


async def limit(admin: AIOKafkaAdminClient, topic: str, max_bytes: int) -> None:
    configs = {"max.message.bytes": str(max_bytes)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
