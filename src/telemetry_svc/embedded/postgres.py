"""A PostgreSQL 18 of our own: loopback, a random password, all durability on unless a test says otherwise.

The cluster is made beside its place and renamed, so a start that was killed leaves none or a whole one. Two roles: the
service's own, which owns its database and nothing else, as in production, and a superuser for tests that need one.
"""

import asyncio
import os
import secrets
import shutil
import signal
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from telemetry_svc.embedded.errors import EmbeddedUnavailable, StartFailed
from telemetry_svc.embedded.files import in_thread, write_atomically
from telemetry_svc.embedded.ports import HOST, remembered_ports
from telemetry_svc.embedded.postgres_install import MAJOR, PostgresInstall, hand_over, prepare
from telemetry_svc.embedded.process import Child, Command, Spawner, leftovers
from telemetry_svc.embedded.server import EmbeddedServer, Progress

ROLE: Final = "telemetry"
DATABASE: Final = "telemetry"
SUPERUSER: Final = "postgres"
_INITDB_WITHIN_S = 120.0
_CONNECT_WITHIN_S = 30.0
_STATUS_LINE = 7  # of postmaster.pid
_ENV: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Sized for one laptop: some hundred time partitions are locked by one query; a log without statements, parameters or
# DETAIL lines, because those carry data.
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "max_locks_per_transaction": "256",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] %a ",
}
_NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer(EmbeddedServer):
    """One cluster in one directory."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: ends the sessions, keeps everything committed
    start_within_s = 180.0  # a recovery after a crash takes its time
    stop_within_s = 20.0

    def __init__(self, home: Path, cache_dir: Path, spawner: Spawner, progress: Progress, *, durable: bool) -> None:
        """`durable=False` is for tests that start from nothing each time: a crash of the machine loses data."""
        super().__init__(home, spawner, progress)
        self._cache_dir = cache_dir
        self._data = home / "data"
        self._settings = _SETTINGS | ({} if durable else _NOT_DURABLE)
        self._durable = durable
        self._install: PostgresInstall | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """`postgresql://…` of the service's role and database."""
        return self.url_of(DATABASE)

    @property
    def admin_url(self) -> str:
        """The same database, as superuser."""
        return f"postgresql://{SUPERUSER}:{self._password(SUPERUSER)}@{HOST}:{self._port}/{DATABASE}"

    def url_of(self, database: str) -> str:
        """`postgresql://…` of the service's role and another database of this server."""
        return f"postgresql://{ROLE}:{self._password(ROLE)}@{HOST}:{self._port}/{database}"

    async def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database that the service's role owns, from a template without sessions; returns its URL."""
        await self._as_superuser(f'CREATE DATABASE "{name}" OWNER {ROLE} TEMPLATE "{template}"')
        return self.url_of(name)

    async def drop_database(self, name: str) -> None:
        """Remove a database and end the sessions in it; harmless when there is none."""
        await self._as_superuser(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _prepare(self) -> None:
        self._install = await in_thread(self._prepare_files)
        if not self._data.exists():
            await self._init_cluster(self._install)

    def _prepare_files(self) -> PostgresInstall:
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o711)
        version = self._data / "PG_VERSION"
        if version.exists() and (found := version.read_text().strip()) != str(MAJOR):
            raise EmbeddedUnavailable(
                f"{self._data} was made by PostgreSQL {found}, this is {MAJOR}: dump it with the old one, or remove it"
            )
        for role in (ROLE, SUPERUSER):
            if not self._password_file(role).exists():
                write_atomically(self._password_file(role), secrets.token_urlsafe(24))
        return prepare(self._data, self._cache_dir)

    async def _init_cluster(self, install: PostgresInstall) -> None:
        self._progress("making a PostgreSQL cluster")
        unfinished = self.home / "data.new"
        password = self.home / "initdb-password"
        try:
            await in_thread(self._make_room, unfinished, password, install)
            await self._run_tool("initdb", self._initdb(unfinished, password, install), _INITDB_WITHIN_S)
            await in_thread(unfinished.rename, self._data)
        finally:
            password.unlink(missing_ok=True)

    def _make_room(self, unfinished: Path, password: Path, install: PostgresInstall) -> None:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        write_atomically(password, self._password(SUPERUSER))
        for path in (unfinished, password):
            hand_over(path, install.account)

    def _initdb(self, data: Path, password: Path, install: PostgresInstall) -> Command:
        argv = [str(install.bin / "initdb"), "--pgdata", str(data), "--username", SUPERUSER, "--pwfile", str(password)]
        argv += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
        argv += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions"]
        if not self._durable:
            argv.append("--no-sync")
        return Command(tuple(argv), self.home / "initdb.log", env=_ENV, account=install.account)

    def _leftovers(self) -> list[psutil.Process]:
        return leftovers("postgres", lambda process: process.cwd() == str(self._data))

    def _clean_up(self) -> None:
        """A stale pid file is in the way when another process, or a zombie, has its pid by now."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _choose_ports(self) -> tuple[int, ...]:
        self._port = remembered_ports(self.home / "ports.json", ("postgres",))["postgres"]
        return (self._port,)

    def _command(self) -> Command:
        install = self._install
        if install is None:
            raise StartFailed(self.name, "not prepared", self.log)
        argv = [str(install.bin / "postgres"), "-D", str(self._data), "-p", str(self._port)]
        for setting, value in self._settings.items():
            argv += ["-c", f"{setting}={value}"]
        # SIGQUIT: the server ends its sessions at once; the next start replays the log.
        return Command(tuple(argv), self.log, env=_ENV, account=install.account, death_signal=signal.SIGQUIT)

    async def _is_ready(self, child: Child) -> bool:
        return await asyncio.to_thread(self._status, child.pid) == "ready"

    def _status(self, pid: int) -> str:
        """What the server says of itself in postmaster.pid."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return ""
        return lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE and lines[0].strip() == str(pid) else ""

    async def _started(self) -> None:
        try:
            await self._make_role_and_database()
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StartFailed(self.name, str(error).splitlines()[0], self.log) from error

    async def _make_role_and_database(self) -> None:
        """Where they are not there yet: the service's own."""
        connection = await self._connect(SUPERUSER)
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", ROLE):
                await connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password(ROLE)}'")
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        finally:
            await connection.close()

    async def _as_superuser(self, statement: str) -> None:
        connection = await self._connect(DATABASE)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _connect(self, database: str) -> "asyncpg.Connection[asyncpg.Record]":
        password = await asyncio.to_thread(self._password, SUPERUSER)
        return await asyncpg.connect(
            host=HOST,
            port=self._port,
            user=SUPERUSER,
            password=password,
            database=database,
            timeout=_CONNECT_WITHIN_S,
            ssl=False,
        )

    def _password(self, role: str) -> str:
        return self._password_file(role).read_text()

    def _password_file(self, role: str) -> Path:
        return self.home / f"{role}.password"
