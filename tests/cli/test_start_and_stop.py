"""Roles, database and broker start in any order and end without one of them; SIGTERM under load loses nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc import topics
from telemetry_svc.embedded import EmbeddedServices, start_embedded
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.schedule import TURN_EVERY_S
from telemetry_svc.store.refusals import Refusal, refusal_of
from telemetry_svc.store.schema import metadata
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from tests.cli.programs import GRACE_S, Cli, Program, is_ready
from tests.ingest.pipeline import ping, registration
from tests.stream.proxy import commit_cutter
from tests.web.doubles import bearer

ROLES = ("gateway", "ingest", "notify", "schedule", "api")
PINGS = 30_000
SHORT_GRACE_S = 15
"""Who is not done by then is ended, with exit code 1."""
EVERY_TABLE = tuple(table.name for table in metadata.sorted_tables)


@pytest.fixture
async def own(home: Path) -> AsyncIterator[EmbeddedServices]:
    """A database and a broker that this test may stop."""
    async with start_embedded(home / "servers") as services:
        yield services


def settings_of(database_url: str, bootstrap: str) -> dict[str, Any]:
    return {
        "database_url": database_url,
        "kafka_bootstrap": bootstrap,
        "personal_data_keys": new_keyring_text(),
        "topic_replication": 1,
    }


@pytest.mark.embedded
@pytest.mark.parametrize("order", [("postgres", "kafka"), ("kafka", "postgres")], ids=" then ".join)
async def test_roles_wait_for_whatever_starts_after_them(
    cli: Cli, home: Path, own: EmbeddedServices, order: tuple[str, str]
) -> None:
    settings = settings_of(own.database_url, own.kafka_bootstrap)
    assert cli("migrate", **settings).code == 0
    key = cli("keys", "create", "--role", "admin", **settings).out.strip()
    servers = {"postgres": own.postgres, "kafka": own.kafka}
    for server in servers.values():
        await server.stop()
    with ExitStack() as stack:
        roles = {role: stack.enter_context(cli.started(role, home=home, **settings)) for role in ROLES}
        at = {role: stack.enter_context(_client(role, running, key)) for role, running in roles.items()}
        for name in order:
            for client in at.values():
                assert client.get("/livez").status_code == 200
            assert at["ingest"].get("/readyz").status_code == 503
            await servers[name].start()
            await asyncio.sleep(1)
        for client in at.values():
            await _until(partial(is_ready, client))
        machine = {"machine_id": "ORDER-1", "tonnage_t": 21.5, "customer_phone": "+8613800000000"}
        assert at["api"].post("/v1/machines", json=machine).status_code == 201
        sent = {"machine_id": "ORDER-1", "recorded_at": "2026-11-20T04:20:31Z", "hour_meter_h": 50}
        assert at["gateway"].post("/v1/pings", json=[sent]).status_code == 202
        await _until(lambda: bool(at["api"].get("/v1/calls").json()["items"]))
        await servers[order[1]].stop()
        for running in roles.values():
            running.send(signal.SIGTERM)
        assert {role: running.ends() for role, running in roles.items()} == dict.fromkeys(ROLES, 0)


async def test_sigterm_under_load(
    cli: Cli,
    home: Path,
    kafka: KafkaSettings,
    database_url: str,
    engine: AsyncEngine,
    clean_database: None,
    clean_topics: None,
) -> None:
    """In time, exit code 0, partitions and the scheduler's lease given up; whoever comes after goes on where it was."""
    settings = settings_of(database_url, kafka.bootstrap)
    assert cli("migrate", **settings).code == 0
    with ExitStack() as stack:
        first = [stack.enter_context(cli.started(role, home=home, **settings)) for role in ("ingest", "schedule")]
        await _until_leads(engine, leads=True)
        await _register(kafka, engine)
        before = await _one(engine, "SELECT sum(next_offset_a) FROM partition_owner")
        sending = asyncio.create_task(_send(kafka))
        await _until_stored(engine, 1)
        for running in first:
            running.send(signal.SIGTERM)
        assert [running.ends(GRACE_S) for running in first] == [0, 0]
        assert await _state_of_group(kafka) == "Empty", "who comes after need not wait until the member is missed"
        assert "Traceback" not in first[0].err
        await sending
    stored = await _stored(engine)
    assert 0 < stored < PINGS, "it was in the midst of it"
    assert await _one(engine, "SELECT sum(next_offset_a) FROM partition_owner") - before == stored
    await _until_leads(engine, leads=False)
    with cli.started("ingest", home=home, **settings):
        await _until_stored(engine, PINGS)
    assert await _one(engine, "SELECT count(*) FROM (SELECT DISTINCT machine_id, recorded_at FROM ping) AS p") == PINGS


@pytest.mark.parametrize(
    ("roles", "locked", "is_mute"),
    [
        pytest.param(("ingest", "notify", "schedule"), EVERY_TABLE, False, id="for_a_lock_on_every_table"),
        pytest.param(("ingest",), ("ping",), True, id="amid_a_copy_for_a_server_that_says_nothing_more"),
        pytest.param(("ingest", "notify", "schedule"), (), True, id="for_a_server_that_says_nothing_more_to_anybody"),
    ],
)
async def test_sigterm_while_a_statement_waits(
    cli: Cli,
    home: Path,
    kafka: KafkaSettings,
    database_url: str,
    engine: AsyncEngine,
    clean_database: None,
    clean_topics: None,
    roles: tuple[str, ...],
    locked: tuple[str, ...],
    is_mute: bool,
) -> None:
    """The statement itself would wait a minute or more. What was not committed is done by whoever comes after."""
    settings = settings_of(database_url, kafka.bootstrap) | {"grace_s": SHORT_GRACE_S}
    assert cli("migrate", **settings).code == 0
    async with commit_cutter(database_url) as (proxy, proxied), engine.connect() as holder:
        by_proxy = settings | {"database_url": proxied}
        with ExitStack() as stack:
            started = [stack.enter_context(cli.started(role, home=home, **by_proxy)) for role in roles]
            await _register(kafka, engine)
            await _lock(holder, locked)
            async with AIOKafkaProducer(**client_options(kafka, "tests"), acks="all") as producer:
                value = ping("LOAD-1", "2026-11-20T04:20:31Z", hour_meter_h=10)
                if not locked:
                    proxy.mute()
                await producer.send_and_wait(topics.PINGS, key=b"LOAD-1", value=value)
            if locked:
                await _until_waits(engine, roles)
            else:
                await asyncio.sleep(TURN_EVERY_S + 1)  # each loop has asked something by then
            if is_mute:
                proxy.mute()
            for running in started:
                running.send(signal.SIGTERM)
            ended = [await asyncio.to_thread(running.ends) for running in started]
            assert ended == [0] * len(roles), started[0].err
            assert [line for running in started for line in running.err.splitlines() if "Traceback" in line] == []
        await holder.rollback()
        assert await _stored(engine) == 0
    with cli.started("ingest", home=home, **settings):
        await _until_stored(engine, 1)
    assert await _stored(engine) == 1


async def _lock(holder: AsyncConnection, tables: tuple[str, ...]) -> None:
    """Until its transaction ends. Begun anew where a role is in the way, before PostgreSQL calls it a deadlock."""
    async with asyncio.timeout(30):
        while tables and not await _locks(holder, tables):
            await holder.rollback()


async def _locks(holder: AsyncConnection, tables: tuple[str, ...]) -> bool:
    for name in ("idle_in_transaction_session_timeout = 0", "transaction_timeout = 0", "lock_timeout = '200ms'"):
        await holder.execute(text(f"SET LOCAL {name}"))
    try:
        await holder.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
    except DBAPIError as error:
        if refusal_of(error) is not Refusal.LOCKED:
            raise
        return False
    return True


async def _until_waits(engine: AsyncEngine, roles: tuple[str, ...]) -> None:
    waiting = "SELECT count(DISTINCT application_name) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while await _one(engine, waiting) < len(roles):  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)


async def _register(kafka: KafkaSettings, engine: AsyncEngine) -> None:
    async with AIOKafkaProducer(**client_options(kafka, "tests"), acks="all") as producer:
        await producer.send_and_wait(topics.COMMANDS, key=b"LOAD-1", value=registration("LOAD-1"))
    async with asyncio.timeout(30):
        while not await _one(engine, "SELECT count(*) FROM machine_state"):  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.05)


async def _send(kafka: KafkaSettings) -> None:
    async with AIOKafkaProducer(**client_options(kafka, "tests"), acks="all", linger_ms=20) as producer:
        acks = []
        for number in range(PINGS):
            minute, second = divmod(number, 60)
            at = f"2026-11-{1 + minute // 1440:02}T{minute // 60 % 24:02}:{minute % 60:02}:{second:02}Z"
            acks.append(await producer.send(topics.PINGS, key=b"LOAD-1", value=ping("LOAD-1", at, hour_meter_h=10)))
        await asyncio.gather(*acks)


async def _state_of_group(kafka: KafkaSettings) -> str:
    """That of ingest, as its coordinator sees it; a member that did not leave keeps it from being empty for 10 s."""
    admin = AIOKafkaAdminClient(**client_options(kafka, "tests"))
    await admin.start()
    try:
        answers: list[Any] = await admin.describe_consumer_groups([topics.INGEST_GROUP])
    finally:
        await admin.close()
    [(_, _, state, *_)] = answers[0].groups
    return str(state)


async def _stored(engine: AsyncEngine) -> int:
    return int(await _one(engine, "SELECT count(*) FROM ping"))


async def _one(engine: AsyncEngine, query: str) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(text(query))


async def _until_stored(engine: AsyncEngine, at_least: int) -> None:
    async with asyncio.timeout(60):
        while await _stored(engine) < at_least:  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.01)


async def _until_leads(engine: AsyncEngine, *, leads: bool) -> None:
    query = "SELECT EXISTS (SELECT FROM schedule_lease WHERE expires_at > clock_timestamp())"
    async with asyncio.timeout(10):
        while await _one(engine, query) is not leads:  # noqa: ASYNC110 - a database tells by asking
            await asyncio.sleep(0.01)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - no event tells what others see
            await asyncio.sleep(0.1)


def _client(role: str, running: Program, key: str) -> httpx.Client:
    address = running.says(rf"^{role} serves (http://\S+)$")[1]
    return httpx.Client(base_url=address, headers=bearer(key), timeout=30)
