"""The one front of the embedded parts: both servers, one directory, one life.

They start in parallel, stop in parallel, and never outlive the process. A server that the user brings (by
`TELEMETRY_DATABASE_URL` or `TELEMETRY_KAFKA_BOOTSTRAP`) is simply not started.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from telemetry_svc.embedded.directory import DataDirectory, default_cache_dir
from telemetry_svc.embedded.errors import EmbeddedError
from telemetry_svc.embedded.files import in_thread
from telemetry_svc.embedded.kafka import KafkaBroker
from telemetry_svc.embedded.postgres import PostgresServer
from telemetry_svc.embedded.process import Spawner
from telemetry_svc.embedded.server import EmbeddedServer, Progress

_WATCH_EVERY_S = 0.5


def ignore(message: str) -> None:
    """A progress that nobody watches."""


class EmbeddedServices:
    """What was started, while it runs. Made by `start_embedded`."""

    def __init__(self, directory: DataDirectory, postgres: PostgresServer | None, kafka: KafkaBroker | None) -> None:
        """Nothing is started here."""
        self._directory = directory
        self._postgres = postgres
        self._kafka = kafka

    @property
    def data_dir(self) -> Path:
        """The directory that this process holds."""
        return self._directory.path

    @property
    def postgres(self) -> PostgresServer:
        """The database server, to stop, start, kill, pause and resume. Raises if it is not one of ours."""
        if self._postgres is None:
            raise EmbeddedError("no embedded PostgreSQL was asked for")
        return self._postgres

    @property
    def kafka(self) -> KafkaBroker:
        """The broker, likewise."""
        if self._kafka is None:
            raise EmbeddedError("no embedded Kafka was asked for")
        return self._kafka

    @property
    def database_url(self) -> str:
        """`postgresql://…`, of the service's own role."""
        return self.postgres.url

    @property
    def kafka_bootstrap(self) -> str:
        """`host:port`."""
        return self.kafka.bootstrap

    def announce(self, address: str) -> None:
        """Say where this process serves, so that a second start can name it."""
        self._directory.announce(address)

    async def watch(self) -> NoReturn:
        """Run until a part ends that was not asked to, then raise `PartDied`."""
        while True:
            for server in self._servers:
                server.check()
            await asyncio.sleep(_WATCH_EVERY_S)

    @property
    def _servers(self) -> tuple[EmbeddedServer, ...]:
        return tuple(server for server in (self._postgres, self._kafka) if server is not None)

    async def _start(self) -> None:
        try:
            async with asyncio.TaskGroup() as starts:
                for server in self._servers:
                    starts.create_task(server.start())
        except ExceptionGroup as failures:
            named = failures.subgroup(EmbeddedError)
            if named is None:
                raise
            raise _first(named) from None
        self._directory.publish(
            self._postgres.url if self._postgres else None, self._kafka.bootstrap if self._kafka else None
        )

    async def _stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers))


@asynccontextmanager
async def start_embedded(
    data_dir: Path,
    *,
    postgres: bool = True,
    kafka: bool = True,
    durable: bool = True,
    fresh: bool = False,
    cache_dir: Path | None = None,
    progress: Progress = ignore,
) -> AsyncIterator[EmbeddedServices]:
    """Hold `data_dir` and run the asked-for servers in it until the end of the block.

    `fresh` empties the servers' folders first; `progress` gets lines for somebody who waits. Raises `AlreadyRunning`,
    `EmbeddedUnavailable` or `StartFailed`, each one line for the user, with nothing left running.
    """
    directory = DataDirectory(data_dir)
    await directory.take()
    spawner = Spawner()
    cache = (cache_dir or default_cache_dir()).expanduser().resolve()
    services = EmbeddedServices(
        directory,
        PostgresServer(directory.postgres, cache, spawner, progress, durable=durable) if postgres else None,
        KafkaBroker(directory.kafka, cache, spawner, progress) if kafka else None,
    )
    try:
        if fresh:
            await in_thread(directory.empty)
        await services._start()
        yield services
    finally:
        try:
            await services._stop()
        finally:
            spawner.close()
            directory.release()


def _first(failures: ExceptionGroup[EmbeddedError]) -> EmbeddedError:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, ExceptionGroup) else failure
