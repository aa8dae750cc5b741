"""A member that is alive and silent is found out, and one that has nothing to do, or may not, is not."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.app import Role
from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.progress import STALLED_S, UNSEEN, Progress
from tests.ingest.pipeline import ping
from tests.stream.rig import PARTITIONS, Rig, until
from tests.stream.test_layout import producer_of, service
from tests.web.doubles import client_of


@dataclass
class Silent:
    """A member that the group has given everything, and that stores nothing."""

    wanted: frozenset[int] = frozenset(range(PARTITIONS))
    held: str | None = None


@dataclass
class HandClock:
    at_s: float = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return self.at_s


@dataclass
class Watch:
    """A `Progress` on the rig's group, with a silent member and a clock moved by hand."""

    rig: Rig
    member: Silent
    clock: HandClock
    progress: Progress

    async def after(self, seconds: float) -> str | None:
        """What is told after a look now and another one so much later."""
        await self.progress.look()
        self.clock.at_s += seconds
        await self.progress.look()
        return self.progress.stalled()


def watch_of(rig: Rig, kafka: KafkaSettings | None = None, engine: object = None) -> Watch:
    member, clock = Silent(), HandClock()
    progress = Progress(
        member,
        kafka=kafka or rig.kafka,
        engine=engine or rig.engine,  # type: ignore[arg-type]
        group=rig.group,
        topics=rig.topics,
        clock=clock,
    )
    return Watch(rig, member, clock, progress)


@pytest.fixture
async def watch(rig: Rig) -> Watch:
    """Two records were stored, two more wait."""
    await rig.produce(0, b"stored")
    await rig.produce(1, b"stored", second=True)
    async with rig.member():
        await rig.until_all_seen()
    watch = watch_of(rig)
    await watch.progress.look()
    return watch


async def unread(watch: Watch) -> None:
    await watch.rig.produce(2, b"unread")


async def test_ninety_seconds_of_silence_with_something_to_read(watch: Watch) -> None:
    await unread(watch)
    assert await watch.after(STALLED_S) is None
    told = await watch.after(1)
    place = f"{watch.rig.topics[0]} partition 2"
    assert told == f"{watch.rig.group} has stored nothing of {place} for 91 s although there is something to read"


async def test_with_nothing_to_read_silence_is_golden(watch: Watch) -> None:
    assert await watch.after(1_000) is None


async def test_a_command_counts_like_a_ping(watch: Watch) -> None:
    await watch.rig.produce(2, b"unread", second=True)
    assert await watch.after(STALLED_S + 1) is not None


async def step(watch: Watch, change: str, partition: int) -> None:
    """As if its member had stored something there."""
    async with watch.rig.engine.begin() as connection:
        query = f"UPDATE partition_owner SET {change} WHERE group_name = :g AND partition = :p"
        await connection.execute(text(query), {"g": watch.rig.group, "p": partition})


async def test_pings_that_stand_still_are_told_of_while_ticks_are_stored(watch: Watch) -> None:
    """Each partition gets a tick every minute; one is stored between any two looks."""
    await unread(watch)
    told = None
    for _ in range(3):
        await watch.rig.produce(2, b"tick", second=True)
        await step(watch, "next_offset_b = next_offset_b + 1", 2)
        told = await watch.after(STALLED_S / 2)
    assert told is not None
    assert f"{watch.rig.topics[0]} partition 2 for 135 s" in told


async def test_in_a_backlog_each_partition_waits_for_its_turn(watch: Watch) -> None:
    """One that has moved has more to read."""
    await unread(watch)
    await watch.after(60)
    await step(watch, "next_offset_a = next_offset_a - 1", 0)
    assert await watch.after(60) is None
    assert await watch.after(STALLED_S) is None, "the time counts from the first look that saw no step"
    assert await watch.after(1) is not None


async def test_a_pause_is_no_silence(watch: Watch) -> None:
    await unread(watch)
    watch.member.held = "too many rows wait in the outbox"
    assert await watch.after(1_000) is None
    watch.member.held = None
    assert await watch.after(STALLED_S) is None, "the time counts from the end of the pause"
    assert await watch.after(1) is not None


async def test_of_partitions_that_are_another_members_nothing_is_asked(watch: Watch) -> None:
    await unread(watch)
    watch.member.wanted = frozenset({0, 1, 3})
    assert await watch.after(1_000) is None


async def test_a_database_that_does_not_answer_is_no_reason_to_restart(rig: Rig, unused_port: int) -> None:
    await rig.produce(0, b"unread")
    away = create_engine(f"postgresql://nobody@127.0.0.1:{unused_port}/x", application_name="tests")
    watch = watch_of(rig, engine=away)
    await watch.progress.look()
    assert await watch.after(1_000) is None
    await away.dispose()


async def test_a_broker_that_does_not_answer_is_no_reason_to_restart(rig: Rig, unused_port: int) -> None:
    await rig.produce(0, b"unread")
    watch = watch_of(rig, kafka=KafkaSettings(f"127.0.0.1:{unused_port}"))
    await watch.progress.look()
    assert await watch.after(1_000) is None
    assert watch.progress.unseen == UNSEEN


async def test_a_service_tells_its_http_of_an_ingest_that_stands_still_and_of_a_broker_that_hangs(
    kafka: KafkaSettings,
    engine: AsyncEngine,
    clean_database: None,
    clean_topics: None,
    database_url: str,
    unused_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alive and ready, then silent for 91 s with a ping unread (a lock holds its batch), then without a broker."""
    monkeypatch.setattr("telemetry_svc.stream.progress.LOOK_EVERY_S", 0.1)
    clock, stop = HandClock(), asyncio.Event()
    ingest = service(Role.INGEST, kafka, database_url, clock)
    running = asyncio.create_task(ingest.run(stop))
    async with client_of(ingest.app) as client, engine.connect() as holder, producer_of(kafka) as producer:
        await until_told(client, "/readyz", {"assignment": "ok"})
        await until_told(client, "/livez", {"loop": "ok", "progress": "ok"})
        await holder.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        await holder.execute(text("LOCK TABLE partition_owner IN EXCLUSIVE MODE"))
        sent = await producer.send_and_wait(topics.PINGS, ping("LIVE-1", "2026-11-20T04:20:31Z"), key=b"LIVE-1")
        progress = ingest._members._watched[0][1]
        await until(lambda: bool(progress._since_s))
        clock.at_s += STALLED_S + 1
        place = f"telemetry-ingest has stored nothing of excavator.pings partition {sent.partition} for 91 s"
        told = {"loop": "ok", "progress": f"{place} although there is something to read"}
        await until_told(client, "/livez", told, status=503)
        await holder.rollback()
        await until_told(client, "/livez", {"loop": "ok", "progress": "ok"})
        progress._kafka = KafkaSettings(f"127.0.0.1:{unused_port}")
        await until_told(client, "/readyz", {"assignment": UNSEEN}, status=503)
    stop.set()
    await running


async def until_told(client: httpx.AsyncClient, path: str, checks: dict[str, str], status: int | None = None) -> None:
    """Until these checks have these outcomes."""
    async with asyncio.timeout(30):
        while True:
            answer = await client.get(path)
            if checks.items() <= answer.json()["checks"].items():
                break
            await asyncio.sleep(0.05)
    assert status in {None, answer.status_code}


async def test_a_real_member_that_reads_is_never_told_of(rig: Rig) -> None:
    async with rig.member() as member:
        watch = watch_of(rig)
        watch.progress._member = member.consumer
        for number in range(3):
            await rig.produce(number, b"v")
            await rig.until_all_seen()
            assert await watch.after(STALLED_S + 1) is None
