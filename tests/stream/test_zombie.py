"""A member sleeps (SIGSTOP) for longer than its session lasts and wakes up with a batch in hand (faults.md, 3).

Or it does not wake up: it is killed between its commit and that of Kafka (2).
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.stream.kafka import KafkaSettings
from tests.stream.rig import PARTITIONS, Rig, new_rig, until

ROOT = Path(__file__).parents[2]
ZOMBIE = Path(__file__).with_name("zombie.py")
TAKEOVER_WITHIN_S = 15
"""faults.md, 3: from the start of the successor until it has stored everything."""
Start = Callable[[str, Rig], Awaitable[Process]]


@pytest.fixture
async def start(database_url: str, kafka_bootstrap: str) -> AsyncIterator[Start]:
    """Starts zombies; none outlives the test."""
    started: list[Process] = []

    async def start(where: str, rig: Rig) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(str(ZOMBIE), where, database_url, kafka_bootstrap, rig.group, *rig.topics),
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            stdout=PIPE,
        )
        started.append(process)
        await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def fill(rig: Rig, tag: str) -> None:
    for partition in range(PARTITIONS):
        await rig.produce(partition, *(f"{tag}{number}".encode() for number in range(10)))
        await rig.produce(partition, f"{tag}-command".encode(), second=True)


async def outlive(rig: Rig, where: str, start: Start) -> dict[str, float]:
    """Another member takes over while the zombie sleeps; then it wakes up. Its counters."""
    await fill(rig, "v")
    zombie = await start(where, rig)
    async with rig.member() as successor:
        rows = await rig.until_all_seen(TAKEOVER_WITHIN_S)
        assert {row["epoch"] for row in rows} == {2}
        assert successor.counted("records") == len(rig.sent)
        zombie.send_signal(signal.SIGCONT)
        await until(lambda: len(successor.consumer.owned) == PARTITIONS // 2)
        await fill(rig, "w")
        rig.assert_exactly_once(await rig.until_all_seen())
        zombie.send_signal(signal.SIGTERM)
        told, _ = await asyncio.wait_for(zombie.communicate(), 30)
    assert {row["epoch"] for row in await rig.seen() if row["value"].startswith("v")} == {2}
    counters: dict[str, float] = json.loads(told.splitlines()[-1])
    return counters


async def kill_before_kafka_is_told(rig: Rig, start: Start) -> None:
    """Kafka knows of nothing, and is not asked: who comes next begins behind what was committed."""
    await fill(rig, "v")
    victim = await start("telling", rig)
    stored = len(await rig.seen())
    assert stored
    victim.kill()
    await fill(rig, "w")
    async with rig.member() as successor:
        rig.assert_exactly_once(await rig.until_all_seen())
        assert successor.counted("records") == len(rig.sent) - stored


async def test_a_zombie_stores_nothing_of_its_old_epoch(
    kafka: KafkaSettings, engine: AsyncEngine, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient, start: Start
) -> None:
    """One sleeps between fence and commit: its session is ended. One just before the fence: it is fenced.

    And one is killed behind its commit. All at once, for each is mostly waited for.
    """
    rigs = [await new_rig(kafka, engine, producer, admin) for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        inside = tasks.create_task(outlive(rigs[0], "inside", start))
        before = tasks.create_task(outlive(rigs[1], "before", start))
        tasks.create_task(kill_before_kafka_is_told(rigs[2], start))
    assert before.result()["fenced_batches"] >= 1
    assert inside.result()["failed_batches"] >= 1, "its session is gone, so its commit never reaches the fence"
