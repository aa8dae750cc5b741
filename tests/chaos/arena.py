"""Where a run takes place: a broker and a database of its own, the proxy, the crew, and what is asked of all of them.

The servers may be used for several runs, each on empty topics and an empty database.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.app import Role, Service, Wiring
from telemetry_svc.cli.simulated import register_fleet
from telemetry_svc.embedded import EmbeddedServices, start_embedded
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.simulate.fleet import Fleet
from telemetry_svc.store import keys
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.keys import KeyBinding
from telemetry_svc.store.keys import Role as KeyRole
from telemetry_svc.store.layout import keep_layout
from telemetry_svc.store.migrate import upgrade
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.topics import ensure_topics
from telemetry_svc.topics import INGEST_GROUP, NOTIFY_GROUP
from tests.chaos.crew import FAR, Crew, crew_of
from tests.chaos.sessions import Sessions
from tests.conftest import empty_database, empty_topics
from tests.stream.proxy import CommitCutter, commit_cutter

_OWNERS = text(
    """
    SELECT o.group_name, count(DISTINCT o.owner_pid) FROM partition_owner o
    JOIN pg_stat_activity a ON a.pid = o.owner_pid AND a.backend_start = o.owner_backend_start GROUP BY 1
    """
)
MEMBERS = ("ingest-1", "ingest-2", FAR, "notify-1", "notify-2", "schedule-1", "schedule-2", "gateway-1", "api-1")
POLL_S = 0.1


@dataclass
class Servers:
    """The broker and the database, migrated."""

    parts: EmbeddedServices
    engine: AsyncEngine
    kafka: KafkaSettings
    keyring: str

    async def start(self) -> None:
        """Both run, whatever was done to them."""
        await self.parts.postgres.start()
        await self.parts.kafka.start()


@dataclass
class Arena:
    """A run's surroundings. `key` opens every door of the service."""

    servers: Servers
    home: Path
    crew: Crew
    cutter: CommitCutter
    sessions: Sessions
    key: str

    def address(self, role: str) -> str | None:
        """Where the first member of a role serves now."""
        return next((one.address for one in self.crew.up(role) if one.address is not None), None)

    async def complete(self, within_s: float = 90) -> None:
        """Waits until every member serves; raises where one does not."""

        async def all_serve() -> bool:
            return all(one.address is not None for one in self.crew.members.values())

        if not await holds(all_serve, within_s):
            silent = [one.name for one in self.crew.members.values() if one.address is None]
            message = f"not there after {within_s:.0f} s: {', '.join(silent)}"
            raise TimeoutError(message)

    async def register(self, fleet: Fleet, within_s: float = 60) -> None:
        """Registers the machines and waits until ingest knows them all."""
        service = Service(
            Wiring(
                roles=frozenset[Role](),
                database_url=self.servers.parts.database_url,
                kafka=self.servers.kafka,
                policies=load_policies(None),
                keyring=Keyring.parse(self.servers.keyring),
            )
        )
        try:
            await register_fleet(service, fleet)
        finally:
            await service.engine.dispose()

        async def known() -> bool:
            async with self.servers.engine.connect() as connection:
                count = await connection.scalar(text("SELECT count(*) FROM machine_state"))
            return bool(count == len(fleet.plans))

        if not await holds(known, within_s):
            message = f"ingest did not learn of {len(fleet.plans)} machines within {within_s:.0f} s"
            raise TimeoutError(message)

    async def settled(self, within_s: float) -> bool:
        """Waits until every member of both groups owns partitions; whether they do."""
        groups = {INGEST_GROUP: "ingest", NOTIFY_GROUP: "notify"}

        async def all_own() -> bool:
            async with self.servers.engine.connect() as connection:
                owners = {row[0]: row[1] for row in await connection.execute(_OWNERS)}
            return all(owners.get(group) == len(self.crew.up(role)) for group, role in groups.items())

        return await holds(all_own, within_s)

    async def heal(self) -> None:
        """Servers up, everybody running."""
        await self.servers.start()
        self.crew.heal()


@asynccontextmanager
async def servers_in(home: Path) -> AsyncIterator[Servers]:
    """A broker and a database below `home`, durable as in production, until the end of the block."""
    home.chmod(0o755)  # as root, PostgreSQL runs as a user who must be able to enter it
    async with start_embedded(home / "servers", durable=True) as parts:
        engine = create_engine(parts.database_url, application_name="chaos", pool_size=5)
        try:
            await upgrade(engine)
            kafka = KafkaSettings(parts.kafka_bootstrap)
            await ensure_topics(kafka, replication=1)
            yield Servers(parts, engine, kafka, new_keyring_text())
        finally:
            await engine.dispose()


@asynccontextmanager
async def temporary_servers() -> AsyncIterator[Servers]:
    """The same in a folder that goes away."""
    home = Path(tempfile.mkdtemp(prefix="telemetry-chaos-"))
    try:
        async with servers_in(home) as servers:
            yield servers
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def arena_in(
    servers: Servers, home: Path, build: str | None, members: Sequence[str] = MEMBERS
) -> AsyncIterator[Arena]:
    """Empty topics, an empty database and a crew; `home` takes its logs. Nobody outlives the block."""
    await empty_database(servers.engine)
    await empty_topics(servers.kafka)
    _, counts = await ensure_topics(servers.kafka, replication=1)
    async with servers.engine.begin() as connection:
        await keep_layout(connection, counts)
        key = await keys.create(connection, KeyBinding(KeyRole.ADMIN))
    settings = {
        "database_url": servers.parts.database_url,
        "kafka_bootstrap": servers.kafka.bootstrap,
        "personal_data_keys": servers.keyring,
        "topic_replication": "1",
    }
    home.mkdir(parents=True, exist_ok=True)
    async with (
        commit_cutter(servers.parts.database_url) as (cutter, far_url),
        crew_of(home, settings, {"database_url": far_url}, build) as crew,
    ):
        sessions = Sessions(servers.parts.database_url, crew)
        for name in members:
            crew.start(name)
        try:
            yield Arena(servers, home, crew, cutter, sessions, key)
        finally:
            await sessions.close()


async def holds(what: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    """Waits until something holds; False where it does not in time. What cannot be asked does not hold."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if await what():
                return True
        except DATABASE_ERRORS:
            pass
        await asyncio.sleep(POLL_S)
    return False
