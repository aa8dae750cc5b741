"""The whole service as `up` runs it, on the run's real broker and database, asked over a real socket by a stranger."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from aiokafka import TopicPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.app import Role, Service, Wiring
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.store import keys
from telemetry_svc.store.keys import KeyBinding
from telemetry_svc.store.keys import Role as KeyRole
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.topics import PARTITIONS
from telemetry_svc.telemetry import MachineId
from tests.conftest import Records, empty_database, empty_topics, ends_of, read_topic
from tests.web.doubles import bearer


@dataclass
class House:
    """A running service: its address, its keys, and what lies behind it."""

    address: str
    engine: AsyncEngine
    kafka: KafkaSettings
    database_url: str
    keyring: str
    _keys: dict[KeyRole, str] = field(default_factory=dict)

    async def key(self, role: KeyRole, *machine_ids: str) -> str:
        """A key of that role, a device's bound to these machines; those without are made once."""
        if machine_ids or role not in self._keys:
            binding = KeyBinding(role, tuple(map(MachineId, machine_ids)), role is KeyRole.DEVICE and not machine_ids)
            async with self.engine.begin() as connection:
                made = await keys.create(connection, binding)
            if machine_ids:
                return made
            self._keys[role] = made
        return self._keys[role]

    @contextlib.asynccontextmanager
    async def client(self, role: KeyRole = KeyRole.OPS, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Speaks HTTP over the socket, with a key of that role or with this one."""
        headers = bearer(key or await self.key(role))
        async with httpx.AsyncClient(base_url=self.address, headers=headers, timeout=30) as client:
            yield client

    async def ask(
        self, method: str, path: str, *, role: KeyRole = KeyRole.OPS, key: str | None = None, **how: Any
    ) -> httpx.Response:
        async with self.client(role, key) as client:
            return await client.request(method, path, **how)

    async def all_items(self, path: str, role: KeyRole = KeyRole.OPS) -> list[dict[str, Any]]:
        """Every item of a list, page after page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        async with self.client(role) as client:
            while True:
                answer = await client.get(path, params={"limit": 100} | ({"cursor": cursor} if cursor else {}))
                assert answer.status_code == 200, answer.text
                page = answer.json()
                items += page["items"]
                if (cursor := page["next_cursor"]) is None:
                    return items

    async def cli(self, *arguments: str) -> tuple[int, str, str]:
        """`telemetry-svc …` as a process of its own, pointed at the same parts: exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "telemetry_svc",
            *arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=os.environ
            | {
                "TELEMETRY_DATABASE_URL": self.database_url,
                "TELEMETRY_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
                "TELEMETRY_PERSONAL_DATA_KEYS": self.keyring,
            },
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(sql), values)]

    async def topic(self, name: str) -> Records:
        """All records of a topic, partition by partition."""
        return await read_topic(self.kafka, name)

    async def events(self, *names: str) -> list[dict[str, Any]]:
        """What lies on these topics as JSON; each record's key is its subject's machine."""
        events = []
        for name in names:
            for record in await self.topic(name):
                event = json.loads(record.value or b"null")
                assert dict(record.headers) == {"content-type": b"application/cloudevents+json"}
                assert record.key == event["partitionkey"].encode()
                events.append(event)
        return events

    async def settle(self, timeout_s: float = 60.0) -> None:
        """Waits until everything that was sent is stored, everything decided is out, and every alert was called about.

        Twice in a row: a registration lets dead letters be taken up, which decides more.
        """
        quiet = 0
        async with asyncio.timeout(timeout_s):
            while quiet < 2:
                quiet = quiet + 1 if await self._idle() else 0
                await asyncio.sleep(0.05)

    async def _idle(self) -> bool:
        read = {
            (group, number): (first, second)
            for group, number, first, second in await self.rows(
                "SELECT group_name, partition, next_offset_a, next_offset_b FROM partition_owner"
            )
        }
        [(unsent,)] = await self.rows("SELECT count(*) FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL")
        if unsent:
            return False
        ends = await ends_of(self.kafka, [name for pair in topics.READ_BY.values() for name in pair])
        return all(
            read.get((group, number), (-1, -1))[place] >= ends[TopicPartition(name, number)]
            for group, pair in topics.READ_BY.items()
            for place, name in enumerate(pair)
            for number in range(PARTITIONS)
        )


@contextlib.asynccontextmanager
async def running_house(kafka: KafkaSettings, engine: AsyncEngine, database_url: str) -> AsyncIterator[House]:
    """All roles on empty topics and an empty database, until the end of the block."""
    await empty_database(engine)
    await empty_topics(kafka)
    async with house_on(kafka, engine, database_url, new_keyring_text()) as house:
        yield house


@contextlib.asynccontextmanager
async def house_on(
    kafka: KafkaSettings, engine: AsyncEngine, database_url: str, keyring: str, *, ready: bool = True
) -> AsyncIterator[House]:
    """All roles on topics and a database as they are, until the end of the block; waits until it is `ready` or not."""
    wiring = Wiring(
        roles=frozenset(Role),
        database_url=database_url,
        kafka=kafka,
        policies=load_policies(None),
        keyring=Keyring.parse(keyring),
        http_port=0,
    )
    service = Service(wiring)
    address = service.listen()
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    house = House(address, engine, kafka, database_url, keyring)
    try:
        if ready:
            await until(lambda: _is_ready(address))
        yield house
    finally:
        stop.set()
        await asyncio.wait_for(running, 25)


async def _is_ready(address: str) -> bool:
    async with httpx.AsyncClient(base_url=address) as client:
        return (await client.get("/readyz")).status_code == 200


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    """Waits until something holds; a `TimeoutError` where it does not in time."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - no event tells what others see
            await asyncio.sleep(0.05)
