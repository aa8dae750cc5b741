"""A fleet through the real broker and consumer: its history raises again exactly what is stored, machine by machine.

With anomalies, a silence that a tick tells and a ping ends, and a warranty that only the calendar ended; the edition
counts silence in seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.cli.sending import send_pings
from telemetry_svc.cli.simulated import values
from telemetry_svc.codec import command as command_codec
from telemetry_svc.policies import load_policies
from telemetry_svc.replay import Asked, Replayed, replay_machine
from telemetry_svc.rules import Policy
from telemetry_svc.schedule import Scheduler
from telemetry_svc.simulate.fleet import build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.telemetry import EditionId, Machine, MachineId, Registration
from tests.ingest.pipeline import PARTITIONS, Pipeline, machine, ping, running_pipeline
from tests.policy_cli.command import telemetry
from tests.policy_cli.test_policy import changed
from tests.schedule.test_scheduler import HandClock

DAY = timedelta(days=1)
SILENT_AFTER = timedelta(seconds=2)


class Lived(NamedTuple):
    """A fleet that has lived, and what was decided about it."""

    pipeline: Pipeline
    policies: Mapping[EditionId, Policy]
    policy_dir: Path
    facts: dict[MachineId, set[str]]


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policies")
    changed(directory, ("after: 72 h", "after: 2 s"), ("min_span: 72 h", "min_span: 1 s"))
    return directory


@pytest.fixture
async def lived(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None, policy_dir: Path
) -> AsyncIterator[Lived]:
    policies = load_policies(policy_dir)
    async with running_pipeline(kafka, engine, policies) as pipeline:
        await live(pipeline)
        rows = await pipeline.rows("SELECT machine_id, rule || ' ' || subject || ' ' || stage FROM event")
        facts: dict[MachineId, set[str]] = {}
        for machine_id, fact in rows:
            facts.setdefault(MachineId(machine_id), set()).add(fact)
        yield Lived(pipeline, policies, policy_dir, facts)


async def live(pipeline: Pipeline) -> None:
    now = datetime.now(UTC)
    fleet = build_fleet(
        FleetSpec(
            seed=3,
            machines=8,
            start=now - 12 * DAY,
            hours=10 * 24,
            late=0.2,
            duplicates=0.1,
            faults=1.0,
            clock_faults=2,
            meter_spikes=2,
            ping_every_s=1800,
        )
    )
    for one in fleet.machines:
        await register(pipeline, one, now)
    await register(pipeline, machine("CALENDAR", tonnage_t=19.9, delivered_on=(now - 375 * DAY).date()), now - 40 * DAY)
    await pipeline.settle()
    await send_pings(pipeline.kafka, values(fleet))
    for number in range(3):
        await pipeline.produce(topics.PINGS, "SILENT", ping("SILENT", f"2026-11-20T04:20:3{number}Z", hour_meter_h=1))
    await pipeline.settle()
    await register(pipeline, machine("SILENT"), now)
    await pipeline.settle()
    for number in range(3, 6):
        await pipeline.produce(topics.PINGS, "SILENT", ping("SILENT", f"2026-11-20T04:20:3{number}Z", hour_meter_h=1))
        await asyncio.sleep(0.6)
    await asyncio.sleep((SILENT_AFTER + timedelta(seconds=1)).total_seconds())
    await Scheduler(pipeline.engine, HandClock(now), PARTITIONS).turn()
    await pipeline.settle()
    await until_told(pipeline, "silence")
    await pipeline.produce(topics.PINGS, "SILENT", ping("SILENT", "2026-11-20T04:20:39Z", hour_meter_h=1))
    await pipeline.settle()


async def register(pipeline: Pipeline, of: Machine, at: datetime) -> None:
    command = Registration(uuid4(), of, at, at)
    await pipeline.produce(topics.COMMANDS, of.machine_id, command_codec.encode(command))


async def until_told(pipeline: Pipeline, rule: str) -> None:
    """A tick waits for its pings: no offset tells when it is applied."""
    async with asyncio.timeout(20):
        while not await pipeline.rows("SELECT 1 FROM event WHERE rule = :rule", rule=rule):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await pipeline.settle()


async def test_the_same_ids_come_out_and_nothing_is_raised_twice(lived: Lived, tmp_path: Path) -> None:
    await check_what_was_lived(lived)
    now = datetime.now(UTC)
    asked = Asked(since=now - 100 * DAY, now=now, policies=lived.policies, dry_run=True)
    for machine_id, facts in lived.facts.items():
        outcome = await replay_machine(lived.pipeline.engine, machine_id, asked)
        assert isinstance(outcome, Replayed)
        verdict = outcome.verdict
        assert (verdict.same, verdict.new, verdict.missing) == (len(facts), (), ()), machine_id
    sent = len(await lived.pipeline.topic(topics.MAINTENANCE_DUE)), len(await lived.pipeline.topic(topics.ANOMALY))
    await check_the_command(lived, tmp_path)
    await lived.pipeline.settle()
    assert sent == (
        len(await lived.pipeline.topic(topics.MAINTENANCE_DUE)),
        len(await lived.pipeline.topic(topics.ANOMALY)),
    )


async def check_what_was_lived(lived: Lived) -> None:
    assert {fact.split()[0] for facts in lived.facts.values() for fact in facts} >= {
        "inspection",
        "warranty",
        "checkup",
        "fault",
        "hour_meter",
        "silence",
    }
    assert {fact.rsplit(" ", 1)[0] for fact in lived.facts[MachineId("CALENDAR")]} == {"warranty machine", "checkup 1"}
    silence = "silence 2026-11-20T04:20:35.000Z"
    assert lived.facts[MachineId("SILENT")] == {f"{silence} opened", f"{silence} cleared"}
    assert await lived.pipeline.rows("SELECT count(*) FROM dead_letter WHERE taken_up_as = 'replayed'") == [(3,)]


async def check_the_command(lived: Lived, home: Path) -> None:
    """In a process of its own, really adding: there is nothing to add."""
    total = sum(map(len, lived.facts.values()))
    url = lived.pipeline.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    since = (datetime.now(UTC) - 100 * DAY).isoformat()
    answer = await telemetry("replay", "--from", since, home=home, database_url=url, policy_dir=lived.policy_dir)
    assert (answer.code, answer.err) == (0, [])
    machines = len(await lived.pipeline.rows("SELECT 1 FROM machine_state"))
    assert answer.out[-1] == f"{machines} machines: {total} same, 0 added, 0 missing"
    assert len(answer.out) == machines + 1
