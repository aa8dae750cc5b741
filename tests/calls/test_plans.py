"""The claim stays an index scan over a long queue; PostgreSQL's own plan says so."""

import re
from typing import Any

import pytest
from sqlalchemy import text

from telemetry_svc.store.call_claims import CLAIM_NEXT, CLAIM_ONE
from tests.calls.service import CallService

FILL = """
    INSERT INTO call_task (machine_id, task_id, edition, state, priority, customer_id, contact_count, contact_no,
                           attempts, rejected_by, offered_at, rank_at, route_team_at, route_anyone_at,
                           created_at, changed_at)
    SELECT 'M-' || i, gen_random_uuid(), 'zoomlion-2011-rev1',
           CASE WHEN i % 10 = 0 THEN 'pending' ELSE 'completed' END,
           6, 'CUST-' || i % 5000, 1, 0, 0, '{}', now(), now() + i * interval '1 second', now(), now(), now(), now()
    FROM generate_series(1, 100000) AS i
"""
PARAMETERS = {
    "expert_id": ("text", "'EXP-9'"),
    "team_id": ("text", "NULL"),
    "most": ("int", "10"),
    "lease_s": ("float8", "120"),
    "task_id": ("uuid", "gen_random_uuid()"),
}
"""Name → type and a value."""


@pytest.fixture
async def queue(service: CallService) -> CallService:
    """10 000 pending tasks among 100 000."""
    await service.run(FILL)
    await service.run("ANALYZE call_task")
    return service


async def plan_of(service: CallService, statement: str) -> list[dict[str, Any]]:
    """The nodes of the plan that serves any values, as a prepared statement gets it after its first few runs."""
    names = [name for name in PARAMETERS if re.search(rf"(?<!:):{name}\b", statement)]
    for number, name in enumerate(names, start=1):
        statement = re.sub(rf"(?<!:):{name}\b", f"${number}", statement)
    types, values = zip(*(PARAMETERS[name] for name in names), strict=True)
    async with service.engine.connect() as connection:
        await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.exec_driver_sql(f"PREPARE claim ({', '.join(types)}) AS {statement}")
        explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE claim ({', '.join(values)})")
        plan = list(nodes(explained.scalar_one()[0]["Plan"]))
        await connection.exec_driver_sql("DEALLOCATE claim")
    return plan


def nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


async def test_the_next_calls_are_read_in_the_order_of_the_rank(queue: CallService) -> None:
    plan = await plan_of(queue, CLAIM_NEXT)
    assert not [node for node in plan if node["Node Type"] == "Seq Scan"]
    used = [node["Index Name"] for node in plan if "Index Name" in node]
    assert used.count("ix_call_task_rank") == 2
    assert used.count("ix_call_task_customer") == 1


async def test_one_call_is_found_by_its_id(queue: CallService) -> None:
    plan = await plan_of(queue, CLAIM_ONE)
    assert not [node for node in plan if node["Node Type"] == "Seq Scan"]
    assert "ix_call_task_id" in [node.get("Index Name") for node in plan]


async def test_a_claim_reads_few_rows_of_a_long_queue(queue: CallService) -> None:
    async with queue.engine.begin() as connection:
        values = {"expert_id": "EXP-9", "team_id": None, "most": 10, "lease_s": 120.0}
        explained = await connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {CLAIM_NEXT}"), values)
        plan = explained.scalar_one()[0]
    read = [node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan["Plan"]) if "Index Name" in node]
    assert max(read) <= 20
