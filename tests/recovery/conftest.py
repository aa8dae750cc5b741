"""A database of its own for each test, which can be set back to what it was."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.identity import note_first
from telemetry_svc.store.migrate import upgrade
from tests.conftest import Servers


@dataclass
class Databases:
    """Databases of one server, copied one from the other while nobody is connected."""

    servers: Servers
    urls: dict[str, str] = field(default_factory=dict)
    engines: list[AsyncEngine] = field(default_factory=list)

    async def new(self, template: str = "template1") -> str:
        """The name of a new database, empty or a copy."""
        name = f"recovery_{uuid.uuid4().hex[:8]}"
        self.urls[name] = await self.servers.create_database(name, template)
        return name

    def url(self, name: str) -> str:
        return self.urls[name]

    def engine(self, name: str) -> AsyncEngine:
        """For what a test asks; disposed of at its end."""
        engine = create_engine(self.url(name), application_name="tests")
        self.engines.append(engine)
        return engine

    async def migrated(self) -> str:
        """A new one with our schema that knows where it is."""
        name = await self.new()
        engine = create_engine(self.url(name), application_name="tests")
        await upgrade(engine)
        async with engine.begin() as connection:
            await note_first(connection)
        await engine.dispose()
        return name

    async def close(self) -> None:
        for engine in self.engines:
            await engine.dispose()
        for name in self.urls:
            await self.servers.drop_database(name)


@pytest.fixture
async def databases(servers: Servers) -> AsyncIterator[Databases]:
    databases = Databases(servers)
    yield databases
    await databases.close()
