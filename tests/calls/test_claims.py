"""Who gets which call: order, customer, routes, room, and no task twice at once."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from telemetry_svc.calls import CallState, ExpertId, TaskId, task_id_of
from telemetry_svc.events import Alert, Severity
from telemetry_svc.notify.claims import Refusal
from telemetry_svc.store.call_claims import Claimant, Lease
from telemetry_svc.telemetry import MachineId
from tests.calls.service import CallService
from tests.notify.alerts import fault, inspection, reason_id, warranty


def machines_of(leases: Sequence[Lease]) -> list[str]:
    return [lease.task.machine_id for lease in leases]


async def test_nothing_there(service: CallService) -> None:
    assert await service.claim(most=50) == []


async def test_in_order_of_rank_not_of_arrival(service: CallService) -> None:
    ids = await service.register("UPCOMING", "EXPIRED", "DUE", "OVERDUE", "GENERAL", "MAJOR", "CRITICAL")
    alerts: list[Alert] = [
        inspection(250, "upcoming", ids[0]),
        warranty("machine", "expired", ids[1]),
        inspection(250, "due", ids[2]),
        inspection(250, "overdue", ids[3]),
        fault(Severity.GENERAL, machine=ids[4]),
        fault(Severity.MAJOR, machine=ids[5]),
        fault(Severity.CRITICAL, machine=ids[6]),
    ]
    await service.take(*alerts)
    assert machines_of(await service.claim(most=7)) == list(reversed(ids))


async def test_nobody_waits_more_than_72_hours_behind_others(service: CallService) -> None:
    old, fresh = await service.register("OLD-UPCOMING", "FRESH-CRITICAL")
    now = datetime.now(UTC)
    await service.take(inspection(250, "upcoming", old), now=now - timedelta(hours=60, seconds=1))
    await service.take(fault(Severity.CRITICAL, machine=fresh), now=now)
    assert machines_of(await service.claim(most=2)) == [old, fresh]


async def test_after_the_first_the_other_machines_of_its_customer(service: CallService) -> None:
    a1, a2, a3 = await service.register("A-1", "A-2", "A-3", customer_id="CUST-A")
    b1, b2 = await service.register("B-1", "B-2", customer_id="CUST-B")
    [nobodys] = await service.register("NO-CUSTOMER")
    await service.take(
        fault(Severity.CRITICAL, machine=a1),
        fault(Severity.MAJOR, machine=b1),
        fault(Severity.GENERAL, machine=nobodys),
        inspection(250, "overdue", a2),
        inspection(250, "due", b2),
        inspection(250, "upcoming", a3),
    )
    assert machines_of(await service.claim(most=4)) == [a1, a2, a3, b1]
    assert machines_of(await service.claim(most=4)) == [nobodys, b2]


@pytest.mark.parametrize(
    ("who", "fields", "waited_s", "offered"),
    [
        pytest.param("EXP-1", {"expert_id": "EXP-1", "team_id": "TEAM-1"}, 0, True, id="his-expert-at-once"),
        pytest.param("EXP-2", {"expert_id": "EXP-1", "team_id": "TEAM-1"}, 1195, False, id="another-before-20-min"),
        pytest.param("EXP-2", {"expert_id": "EXP-1", "team_id": "TEAM-1"}, 1200, True, id="another-after-20-min"),
        pytest.param("EXP-2", {"expert_id": "EXP-1"}, 595, False, id="no-team-before-10-min"),
        pytest.param("EXP-2", {"expert_id": "EXP-1"}, 600, True, id="no-team-after-10-min"),
        pytest.param("EXP-2", {}, 0, True, id="neither-anyone-at-once"),
    ],
)
async def test_routes(service: CallService, who: str, fields: dict[str, Any], waited_s: float, offered: bool) -> None:
    await service.register("ZE215-000017", **fields)
    await service.take(inspection(250, "due"), now=datetime.now(UTC) - timedelta(seconds=waited_s))
    assert len(await service.claim(who)) == offered


@pytest.mark.parametrize(("waited_s", "offered"), [(595, False), (600, True)], ids=["before", "after"])
async def test_his_team_after_10_minutes(service: CallService, waited_s: float, offered: bool) -> None:
    await service.register("ZE215-000017", expert_id="EXP-1", team_id="TEAM-1")
    await service.take(inspection(250, "due"), now=datetime.now(UTC) - timedelta(seconds=waited_s))
    async with service.engine.begin() as connection:
        leases = await service.desk.claim(connection, Claimant(ExpertId("EXP-2"), "TEAM-1"), 1)
    assert isinstance(leases, list)
    assert len(leases) == offered


async def test_a_lease_has_a_token_of_its_own_and_an_end(service: CallService) -> None:
    ids = await service.register("A-1", "A-2")
    await service.raise_one_each(ids)
    leases = await service.claim(most=2, lease_s=90)
    assert len({lease.token for lease in leases}) == 2
    for lease in leases:
        assert (lease.task.state, lease.task.assigned_to) == (CallState.CLAIMED, "EXP-9")
        assert 89 < lease.left_s <= 90
        assert [r.shown for r in lease.task.reasons] == [True]
    assert [m["data"]["state"] for m in await service.announced()] == ["pending", "pending", "claimed", "claimed"]
    assert await service.count("call_history WHERE step = 'claimed' AND by = 'EXP-9'") == 2


async def test_at_most_50_leases(service: CallService) -> None:
    ids = await service.register(*(f"M-{number:03}" for number in range(60)))
    await service.raise_one_each(ids)
    assert len(await service.claim(most=30)) == 30
    assert len(await service.claim(most=30)) == 20
    async with service.engine.begin() as connection:
        assert await service.desk.claim(connection, Claimant(ExpertId("EXP-9")), 1) is Refusal.NO_ROOM
    [left] = await service.rows("SELECT machine_id FROM call_task WHERE state = 'pending' LIMIT 1")
    assert await claim_one(service, left.machine_id) is Refusal.NO_ROOM
    assert len(await service.claim("EXP-8", most=50)) == 10


async def test_two_claims_of_one_expert_cannot_pass_his_limit_together(service: CallService) -> None:
    ids = await service.register(*(f"M-{number:03}" for number in range(120)))
    await service.raise_one_each(ids)
    answers = await asyncio.gather(*(service.claim(most=20) for _ in range(3)))
    assert sorted(len(leases) for leases in answers) == [10, 20, 20]


async def test_50_claimers_1000_tasks_none_leased_twice(service: CallService) -> None:
    ids = await service.register(*(f"M-{number:04}" for number in range(1_000)))
    await service.raise_one_each(ids)
    taken: list[TaskId] = []

    async def work(expert_id: str) -> None:
        while leases := await service.claim(expert_id, most=7):
            taken.extend(lease.task.task_id for lease in leases)
            if len(taken) >= 1_000:
                return

    await asyncio.gather(*(work(f"EXP-{number:02}") for number in range(50)))
    assert len(taken) == len(set(taken)) == 1_000
    assert set(taken) == {task_id_of(reason_id(inspection(250, "due", machine_id))) for machine_id in ids}
    assert await service.count("call_history WHERE step = 'claimed'") == 1_000


async def claim_one(service: CallService, machine_id: MachineId, expert_id: str = "EXP-9") -> Lease | Refusal:
    task_id = task_id_of(reason_id(inspection(250, "due", machine_id)))
    async with service.engine.begin() as connection:
        return await service.desk.claim_task(connection, Claimant(ExpertId(expert_id)), task_id)


async def test_one_of_his_choice_whatever_its_rank(service: CallService) -> None:
    first, second = await service.register("A-1", "A-2")
    await service.raise_one_each([first, second])
    lease = await claim_one(service, second)
    assert isinstance(lease, Lease)
    assert lease.task.machine_id == second
    assert await claim_one(service, second) is Refusal.NOT_OFFERED
    assert await claim_one(service, MachineId("UNKNOWN")) is Refusal.UNKNOWN_TASK


async def test_one_of_his_choice_obeys_the_route(service: CallService) -> None:
    [machine_id] = await service.register("A-1", expert_id="EXP-1")
    await service.raise_one_each([machine_id])
    assert await claim_one(service, machine_id, "EXP-2") is Refusal.NOT_OFFERED
    assert isinstance(await claim_one(service, machine_id, "EXP-1"), Lease)


async def test_a_rolled_back_claim_leaves_nothing(service: CallService) -> None:
    [machine_id] = await service.register("A-1")
    await service.raise_one_each([machine_id])
    before = (await service.task_of(machine_id), await service.count("outbox"), await service.count("call_history"))
    async with service.engine.connect() as connection:
        assert await service.desk.claim(connection, Claimant(ExpertId("EXP-9")), 1)
        await connection.rollback()
    after = (await service.task_of(machine_id), await service.count("outbox"), await service.count("call_history"))
    assert after == before
