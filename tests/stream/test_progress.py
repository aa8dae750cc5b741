"""A member that is alive and silent is found out, and one that has nothing to do, or may not, is not."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.progress import STALLED_S, Progress
from tests.stream.rig import PARTITIONS, Rig


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
    assert told == f"{watch.rig.group} has stored nothing for 91 s although there is something to read"


async def test_with_nothing_to_read_silence_is_golden(watch: Watch) -> None:
    assert await watch.after(1_000) is None


async def test_a_command_counts_like_a_ping(watch: Watch) -> None:
    await watch.rig.produce(2, b"unread", second=True)
    assert await watch.after(STALLED_S + 1) is not None


async def test_who_stores_anything_gets_on(watch: Watch) -> None:
    await unread(watch)
    await watch.after(60)
    async with watch.rig.engine.begin() as connection:
        query = "UPDATE partition_owner SET next_offset_a = next_offset_a - 1 WHERE group_name = :g AND partition = 0"
        await connection.execute(text(query), {"g": watch.rig.group})
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


async def test_a_real_member_that_reads_is_never_told_of(rig: Rig) -> None:
    async with rig.member() as member:
        watch = watch_of(rig)
        watch.progress._member = member.consumer
        for number in range(3):
            await rig.produce(number, b"v")
            await rig.until_all_seen()
            assert await watch.after(STALLED_S + 1) is None
