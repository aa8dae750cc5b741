"""Five processes with one role each do what `up` does in one: a reading in, one call out.

They go on doing it while the next version, which only adds, has migrated the database under them (faults.md, 45).
"""

import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.store.migrate import head_revision
from telemetry_svc.store.ownership import take_over
from telemetry_svc.store.schema import metadata
from telemetry_svc.topics import INGEST_GROUP
from tests.cli.programs import Cli, Program, is_ready, until
from tests.web.doubles import bearer

ROLES = ("gateway", "ingest", "notify", "schedule", "api")


@pytest.fixture
def settings(database_url: str, kafka_bootstrap: str, clean_database: None, clean_topics: None) -> dict[str, Any]:
    """The way to the servers of this run, as a deployment would say it."""
    return {
        "database_url": database_url,
        "kafka_bootstrap": kafka_bootstrap,
        "personal_data_keys": new_keyring_text(),
        "topic_replication": 1,
    }


async def test_roles_apart_do_the_same_as_together_also_beside_a_newer_version(
    cli: Cli, home: Path, settings: dict[str, Any], engine: AsyncEngine
) -> None:
    assert cli("migrate", **settings).code == 0
    key = cli("keys", "create", "--role", "admin", **settings).out.strip()
    async with _added_to(engine) as add:
        with ExitStack() as stack:
            roles = {role: stack.enter_context(cli.started(role, home=home, **settings)) for role in ROLES}
            at = {role: stack.enter_context(_client(role, running, key)) for role, running in roles.items()}
            for client in at.values():
                until(partial(is_ready, client))
            machine = {"machine_id": "ROLE-1", "tonnage_t": 21.5, "customer_phone": "+8613800000000"}
            assert at["api"].post("/v1/machines", json=machine).status_code == 201
            _sends(at, recorded_at="2026-11-20T04:20:31Z", hour_meter_h=50)
            until(lambda: _reasons(at) == {("due", 50)})
            [task] = at["api"].get("/v1/calls").json()["items"]
            assert task["state"] == "pending"
            assert _serving(at) == {"gateway": {"/v1/pings"}, "api": {"/v1/machines", "/v1/calls"}}
            await add()
            _sends(at, recorded_at="2026-11-20T05:20:31Z", hour_meter_h=50.5, faults=[{"spn": 110, "fmi": 0}])
            until(lambda: _reasons(at) == {("due", 50), ("opened", None)})
            claimed = at["api"].post("/v1/calls/claim", json={"expert_id": "EXP-7", "max": 2}).json()["tasks"]
            assert [(one["task_id"], one["state"]) for one in claimed] == [(task["task_id"], "claimed")]
            assert [role for role, client in at.items() if not is_ready(client)] == []
            for running in roles.values():
                running.send(signal.SIGTERM)
            assert {role: running.ends() for role, running in roles.items()} == dict.fromkeys(ROLES, 0)
            assert [running.err for running in roles.values() if _complains(running)] == []


@asynccontextmanager
async def _added_to(engine: AsyncEngine) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What migrates to a version that is not ours: two columns more in every table, an index, a table. Taken away at
    the end of the block."""
    tables = [table.name for table in metadata.sorted_tables]

    async def each(*statements: str) -> None:
        for statement in statements:
            async with engine.begin() as connection:
                await connection.execute(text(statement))

    async def add() -> None:
        await each(*(f"ALTER TABLE {table} ADD later text, ADD counted int NOT NULL DEFAULT 0" for table in tables))
        await each("CREATE INDEX ON ping (later)", "CREATE INDEX ON call_task (later)", "CREATE TABLE of_later (n int)")
        await _revision(engine, "9999")

    before = await _revision(engine, head_revision())
    try:
        yield add
    finally:
        await _revision(engine, before)
        await each(*(f"ALTER TABLE {table} DROP IF EXISTS later, DROP IF EXISTS counted" for table in tables))
        await each("DROP TABLE IF EXISTS of_later")


def _sends(at: dict[str, httpx.Client], **fields: Any) -> None:
    assert at["gateway"].post("/v1/pings", json=[{"machine_id": "ROLE-1"} | fields]).status_code == 202


def _reasons(at: dict[str, httpx.Client]) -> set[tuple[str, int | None]]:
    """What the calls are about."""
    tasks = at["api"].get("/v1/calls").json()["items"]
    return {(one.get("stage") or one["phase"], one.get("milestone_h")) for task in tasks for one in task["reasons"]}


def _complains(running: Program) -> bool:
    return any(f'"level": "{level}"' in running.err for level in ("warning", "error"))


@pytest.mark.parametrize(
    ("role", "topic"),
    [("ingest", "excavator.pings"), ("schedule", "excavator.pings"), ("notify", "excavator.alerts.anomaly")],
    ids=["ingest", "schedule", "notify"],
)
async def test_where_machines_would_be_spread_anew_nothing_is_read_or_ticked(
    cli: Cli, settings: dict[str, Any], engine: AsyncEngine, role: str, topic: str
) -> None:
    """As if somebody had doubled the partitions since the first machine was registered."""
    assert cli("migrate", **settings).code == 0
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE topic_layout SET partitions = 6"))
    told = cli(role, **settings)
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    assert f"{topic} has 12 partitions (noted: 6)" in told.err


@pytest.mark.parametrize("command", ["ingest", "up"])
async def test_nothing_begins_without_the_edition_of_its_machines(
    cli: Cli, settings: dict[str, Any], engine: AsyncEngine, command: str
) -> None:
    """As if a policy file had been left out of a deployment: each of their pings would be a dead letter."""
    assert cli("migrate", **settings).code == 0
    async with engine.begin() as connection:
        await connection.execute(_BOUND, {"edition": "our-own-2026", "number": 3})
        await connection.execute(_BOUND, {"edition": "zoomlion-2011", "number": 2})
    told = cli(command, **settings)
    assert "key" not in told.out
    assert (told.code, told.err) == (
        2,
        "telemetry-svc: no policy file is loaded for our-own-2026 (machines bound to it: 3): "
        "see TELEMETRY_POLICY_DIR\n",
    )


_BOUND = text(
    """
    INSERT INTO machine (machine_id, tonnage_t, time_zone, policy_edition, initial_ch, status, device_ids,
                         permitted_hours, registered_at, changed_at)
    SELECT :edition || n, 22.5, 'Asia/Shanghai', :edition, 0, 'active', '{}', '[]', now(), now()
    FROM generate_series(1, :number) n
    """
)


async def test_an_image_that_was_rolled_back_leaves_a_newer_database_as_it_is_and_runs_on_it(
    cli: Cli, home: Path, settings: dict[str, Any], engine: AsyncEngine
) -> None:
    """As compose.yaml does it: roles start when `migrate` has ended with 0."""
    assert cli("migrate", **settings).code == 0
    head = await _revision(engine, "9999")
    try:
        assert cli("migrate", **settings) == (
            0,
            f"the database is newer (9999) than this code knows ({head}): left as it is\n",
            "",
        )
        with cli.started("api", home=home, **settings) as api, _client("api", api, "none") as client:
            until(partial(is_ready, client))
            api.send(signal.SIGTERM)
            assert api.ends() == 0
    finally:
        assert await _revision(engine, head) == "9999"


async def _revision(engine: AsyncEngine, new: str) -> str:
    """Notes another revision; returns the one before."""
    async with engine.begin() as connection:
        before = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        await connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": new})
    return str(before)


async def test_ingest_before_another_broker_is_not_ready_and_says_why(
    cli: Cli, home: Path, settings: dict[str, Any], engine: AsyncEngine
) -> None:
    assert cli("migrate", **settings).code == 0
    async with engine.begin() as connection:
        await take_over(connection, INGEST_GROUP, {3: (10**9, 0)})
    with cli.started("ingest", home=home, **settings) as ingest, _client("ingest", ingest, "none") as client:
        until(lambda: "OffsetsAhead" in client.get("/readyz").text)
        answer = client.get("/readyz")
        ingest.send(signal.SIGTERM)
        assert ingest.ends() == 0
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "ok"
    assert re.fullmatch(
        r"OffsetsAheadError: excavator\.pings partition 3 ends at offset \d+, but the database has read up to "
        "1000000000: this is another broker than before, or it has lost records; "
        "`telemetry-svc recover` says what to do",
        answer.json()["checks"]["assignment"],
    )
    assert ingest.err.count('"level": "warning"') == 1


def _client(role: str, running: Program, key: str) -> httpx.Client:
    address = running.says(rf"^{role} serves (http://\S+)$")[1]
    return httpx.Client(base_url=address, headers=bearer(key), timeout=30)


def _serving(at: dict[str, httpx.Client]) -> dict[str, set[str]]:
    """Which of the service's routes each role has."""
    found = {
        role: {path for path in ("/v1/pings", "/v1/machines", "/v1/calls") if client.options(path).status_code != 404}
        for role, client in at.items()
    }
    return {role: paths for role, paths in found.items() if paths}
