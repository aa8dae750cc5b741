"""What a replay reads, and what ingest does for it each minute, goes by index: PostgreSQL's own plan says so."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.history import KEPT
from telemetry_svc.store.replay_rows import readings_query
from telemetry_svc.store.snapshots import EVERY, take_query
from tests.api.house import plan_of
from tests.replay.lane import IN_NOVEMBER, Lane
from tests.replay.test_scenarios import M


async def scans(engine: AsyncEngine, query: Any) -> list[str]:
    return [line.strip() for line in (await plan_of(engine, query)).splitlines() if "Scan" in line]


async def test_a_replay_reads_one_machines_pings_alone(lane: Lane, engine: AsyncEngine) -> None:
    found = await scans(engine, readings_query(M, 0))
    assert len(found) > 50, "one for each week"
    assert [line for line in found if "Seq Scan" in line] == []


async def test_a_tick_finds_the_machines_without_a_young_snapshot_by_index(lane: Lane, engine: AsyncEngine) -> None:
    at = IN_NOVEMBER
    query = take_query(partition=1, at=at, apply_seq=1, due_before=at - EVERY, kept_from=at - KEPT, at_most=500)
    found = await scans(engine, query)
    assert [line for line in found if "ix_machine_state_snapshot" in line]
    assert [line for line in found if "Seq Scan" in line] == []
