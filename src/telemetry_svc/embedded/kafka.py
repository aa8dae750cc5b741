"""A Kafka of our own: one node that is broker and controller (KRaft), loopback, in a JVM of half a gigabyte.

Its settings make one node behave: internal topics of one replica, no wait before a group's first assignment, and a
session so short that a start after SIGKILL does not wait for its own ghost.
"""

import asyncio
import os
import secrets
import shutil
import signal
import struct
from importlib import resources
from pathlib import Path
from typing import Final

import psutil

from telemetry_svc.embedded.errors import StartFailed
from telemetry_svc.embedded.files import in_thread, write_atomically
from telemetry_svc.embedded.jars import fetch_jars
from telemetry_svc.embedded.java import Java, find_java
from telemetry_svc.embedded.ports import HOST, remembered_ports
from telemetry_svc.embedded.process import Child, Command, Spawner, leftovers
from telemetry_svc.embedded.server import EmbeddedServer, Progress

_FORMAT_WITHIN_S = 120.0
_ANSWER_WITHIN_S = 2.0
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # length, api key, version, correlation id, no client id
_RECORD_BYTES_MAX: Final = 2 * 1024 * 1024 + 64 * 1024  # a dead letter of 2 MiB and what is around it

_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "12",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "message.max.bytes": str(_RECORD_BYTES_MAX),
    "replica.fetch.max.bytes": str(_RECORD_BYTES_MAX),
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}
# The simplest compiler and collector: a start takes 2.5 s instead of 3.5 s and half the processor, and a broker that
# mostly moves bytes is no slower for it (measured: 200 000 records in and out).
_JVM: Final = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)
_NATIVE_ACCESS_SINCE_MAJOR = 22


class KafkaBroker(EmbeddedServer):
    """One node in one directory."""

    name = "Kafka"
    stop_signal = signal.SIGTERM
    start_within_s = 120.0
    stop_within_s = 30.0

    def __init__(self, home: Path, cache_dir: Path, spawner: Spawner, progress: Progress) -> None:
        """Nothing is fetched before the first `start`."""
        super().__init__(home, spawner, progress)
        self._cache_dir = cache_dir
        self._java: Java | None = None
        self._class_path = ""
        self._ports: dict[str, int] = {}

    @property
    def bootstrap(self) -> str:
        """`host:port`, as clients want it."""
        return f"{HOST}:{self._ports['broker']}"

    async def _prepare(self) -> None:
        self._java = await find_java()
        self._class_path = os.pathsep.join(map(str, await fetch_jars(self._cache_dir, self._progress)))
        await in_thread(self._make_folders)
        if not self._formatted.exists():
            await self._format()

    async def _format(self) -> None:
        """Give the node its storage; a mark says that it is whole."""
        self._progress("formatting Kafka's storage")
        await in_thread(shutil.rmtree, self._data, ignore_errors=True)
        await in_thread(self._choose_ports)
        # 16 bytes, base64: a Kafka Uuid. One in 64 would begin with "-", which the tool takes for an option.
        cluster = secrets.token_urlsafe(16).replace("-", "_")
        tool = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(self._properties))
        await self._run_tool("format", self._jvm(*tool), _FORMAT_WITHIN_S)
        write_atomically(self._formatted, cluster)

    def _make_folders(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.home.chmod(0o700)
        self._scratch.mkdir(exist_ok=True)
        logging = resources.files(__package__).joinpath("log4j2.properties").read_text()
        write_atomically(self.home / "log4j2.properties", logging)

    def _leftovers(self) -> list[psutil.Process]:
        return leftovers("java", lambda process: self._mark in process.cmdline())

    def _clean_up(self) -> None:
        """The JNI libraries unpack themselves into the temporary folder and, after a SIGKILL, stay there."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()

    def _choose_ports(self) -> tuple[int, ...]:
        self._ports = remembered_ports(self.home / "ports.json", ("broker", "controller"))
        write_atomically(self._properties, "".join(f"{key}={value}\n" for key, value in self._settings().items()))
        return tuple(self._ports.values())

    def _settings(self) -> dict[str, str]:
        broker, controller = (f"{HOST}:{self._ports[name]}" for name in ("broker", "controller"))
        return _SETTINGS | {
            "log.dirs": str(self._data),
            "listeners": f"CLIENT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{broker}",
            "controller.quorum.voters": f"1@{controller}",
        }

    def _command(self) -> Command:
        return self._jvm("kafka.Kafka", str(self._properties))

    def _jvm(self, *main: str) -> Command:
        java = self._java
        if java is None:
            raise StartFailed(self.name, "not prepared", self.log)
        native = ("--enable-native-access=ALL-UNNAMED",) if java.major >= _NATIVE_ACCESS_SINCE_MAJOR else ()
        argv = (str(java.executable), *_JVM, *native, *self._properties_of_jvm(), *main)
        env = {"PATH": os.defpath, "LC_ALL": "C", "CLASSPATH": self._class_path}
        return Command(argv, self.home / "jvm.log", cwd=self.home, env=env)

    def _properties_of_jvm(self) -> tuple[str, ...]:
        return (
            self._mark,
            f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}",
            f"-Djava.io.tmpdir={self._scratch}",
        )

    async def _is_ready(self, child: Child) -> bool:
        """It answers requests only when it is unfenced, so any answer will do, if it is ours."""
        port = self._ports["broker"]
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await _answers(port) and await asyncio.to_thread(child.listens_on, port)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return False

    async def _started(self) -> None:
        """Nothing: topics are made by those who own them."""

    @property
    def _mark(self) -> str:
        """What names the directory among the JVM's arguments, and finds it again after our own end."""
        return f"-Dtelemetry.kafka.home={self.home}"

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _scratch(self) -> Path:
        return self.home / "tmp"

    @property
    def _formatted(self) -> Path:
        return self.home / "cluster-id"

    @property
    def _properties(self) -> Path:
        return self.home / "server.properties"


async def _answers(port: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(_API_VERSIONS)
        length = int.from_bytes(await reader.readexactly(4))
        await reader.readexactly(length)
        return True
    finally:
        writer.close()
