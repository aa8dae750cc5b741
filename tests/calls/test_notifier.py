"""Alerts become tasks in the consumer's transaction: whole, once, and told in order."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from telemetry_svc.calls import CallState, StateReason
from telemetry_svc.events import Severity
from telemetry_svc.notify.notifier import Notifier
from telemetry_svc.store import call_tasks
from telemetry_svc.telemetry import MachineId
from tests.calls.service import MARKED_NAME, MARKED_PHONE, CallService
from tests.notify.alerts import QUEUE, fault, inspection, reason_id, warranty
from tests.notify.test_decide import MILESTONES

EXC_001, EXC_024 = MachineId("EXC-001"), MachineId("EXC-024")
READINGS = [
    *(inspection(m, stage, EXC_001) for m in MILESTONES for stage in ("due", "overdue")),
    inspection(50, "due", EXC_024),
    inspection(50, "overdue", EXC_024),
    warranty("machine", "expired", EXC_001),
    inspection(250, "due", EXC_024),
    inspection(250, "overdue", EXC_024),
    inspection(500, "due", EXC_024),
    inspection(500, "overdue", EXC_024),
    inspection(1000, "due", EXC_024),
    warranty("structure", "expired", EXC_001),
]


@pytest.mark.parametrize("batch", [1, 7, 100], ids=["one-by-one", "in-sevens", "at-once"])
async def test_the_real_readings_without_a_customer(service: CallService, batch: int) -> None:
    await service.register(EXC_001, EXC_024, people=())
    for start in range(0, len(READINGS), batch):
        await service.take(*READINGS[start : start + batch])
    tasks = [await service.task_of(EXC_001), await service.task_of(EXC_024)]
    assert [len(task.reasons) for task in tasks] == [12, 4]
    assert {(task.state, task.state_reason) for task in tasks} == {(CallState.ESCALATED, StateReason.NO_CONTACT)}
    assert [r.stage for r in tasks[1].reasons] == ["overdue", "overdue", "overdue", "due"]
    assert await service.count("call_task") == 2
    assert await service.count("call_history") == len(READINGS)


async def test_tasks_have_their_reasons_however_many_they_are(
    service: CallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_tasks, "AT_ONCE", 2)
    ids = await service.register(*(f"M-{number}" for number in range(5)))
    await service.take(*(inspection(at_h, "due", one) for one in ids for at_h in (50, 250)))
    async with service.engine.begin() as connection:
        tasks = await call_tasks.lock_open(connection, ids)
    assert {one: len(task.reasons) for one, task in tasks.items()} == dict.fromkeys(ids, 2)


async def test_a_batch_again_changes_nothing(service: CallService) -> None:
    await service.register(EXC_001, EXC_024)
    await service.take(*READINGS)
    before = await service.task_of(EXC_001)
    sent = await service.count("outbox")
    assert await service.take(*READINGS, *READINGS) == ()
    assert await service.task_of(EXC_001) == before
    assert (await service.count("outbox"), await service.count("call_history")) == (sent, len(READINGS))


async def test_every_change_is_told_once_without_personal_data(service: CallService) -> None:
    [machine_id] = await service.register("ZE215-000017", expert_id="EXP-1", customer_id="CUST-1")
    now = datetime(2026, 11, 22, 4, 20, 31, tzinfo=UTC)
    await service.take(inspection(250, "upcoming"), inspection(250, "due"), fault(Severity.CRITICAL), now=now)
    told = await service.announced()
    assert [message["data"]["priority"] for message in told] == [8, 6, 1]
    assert len({message["id"] for message in told}) == 3
    task_id = str((await service.task_of(machine_id)).task_id)
    for message in told:
        assert (message["specversion"], message["source"]) == ("1.0", "telemetry-svc/notify")
        assert (message["type"], message["subject"]) == ("excavator.call_task.v1", task_id)
        assert (message["partitionkey"], message["time"]) == (machine_id, "2026-11-22T04:20:31Z")
    assert told[1]["data"] == {
        "task_id": task_id,
        "machine_id": "ZE215-000017",
        "customer_id": "CUST-1",
        "state": "pending",
        "state_reason": None,
        "priority": 6,
        "reasons": [
            {
                "alert_id": "e59ca73e-d80d-5236-a163-2bc15288643e",
                "type": "excavator.maintenance_due.v1",
                "kind": "inspection",
                "stage": "due",
                "phase": None,
                "milestone_h": 250,
                "severity": None,
                "summary": "Inspection at 250 h is due",
            }
        ],
        "assigned_to": "EXP-1",
        "attempts": 0,
        "not_before": None,
        "offered_at": "2026-11-22T04:20:31Z",
        "due_at": None,
        "flagged": False,
        "created_at": "2026-11-22T04:20:31Z",
        "changed_at": "2026-11-22T04:20:31Z",
    }
    rows = await service.rows("SELECT topic, key FROM outbox")
    assert {(row.topic, bytes(row.key)) for row in rows} == {("excavator.calls", b"ZE215-000017")}
    assert MARKED_NAME not in str(told)
    assert MARKED_PHONE not in str(told)


async def test_what_makes_no_sense_is_given_back_and_its_neighbours_are_stored(service: CallService) -> None:
    [machine_id] = await service.register("ZE215-000017")
    nonsense = replace(inspection(500, "due"), machine_id=MachineId("OTHER"))
    [rejected] = await service.take(inspection(50, "due"), nonsense, inspection(250, "due"))
    assert (rejected.place, rejected.message) == (1, "data.machine_id is not the subject")
    assert [r.milestone_h for r in (await service.task_of(machine_id)).reasons] == [50, 250]


async def test_a_machine_that_nobody_registered_is_not_lost(service: CallService) -> None:
    await service.take(inspection(250, "due"))
    task = await service.task_of(MachineId("ZE215-000017"))
    assert (task.state, task.state_reason) == (CallState.ESCALATED, StateReason.NO_CONTACT)


async def test_alerts_for_ops_touch_nothing(service: CallService) -> None:
    await service.register("ZE215-000017")
    assert await service.take(fault(Severity.WARNING), fault(Severity.WARNING, "cleared")) == ()
    for table in ("call_task", "call_reason", "call_subject", "call_history", "outbox"):
        assert await service.count(table) == 0


async def test_a_rollback_leaves_nothing(service: CallService) -> None:
    await service.register("ZE215-000017")
    async with service.engine.connect() as connection:
        await Notifier(service.queues).apply(connection, [inspection(250, "due")], datetime.now(UTC))
        await connection.rollback()
    for table in ("call_task", "call_reason", "call_subject", "call_history", "outbox"):
        assert await service.count(table) == 0
    await service.take(inspection(250, "due"))
    assert await service.count("call_task") == 1


async def test_a_flapping_fault_keeps_one_open_task(service: CallService) -> None:
    [machine_id] = await service.register("ZE215-000017")
    await service.take(inspection(250, "due"))
    for spn in range(100):
        await service.take(fault(Severity.GENERAL, spn=spn), fault(Severity.GENERAL, "cleared", spn=spn))
    task = await service.task_of(machine_id)
    assert [r.alert_id for r in task.reasons] == [reason_id(inspection(250, "due"))]
    assert await service.count("call_task") == 1
    assert await service.count("call_reason WHERE ended = 'cleared'") == 100


async def test_columns_that_the_claim_compares(service: CallService) -> None:
    await service.register("ZE215-000017", expert_id="EXP-1", team_id="TEAM-1")
    now = datetime(2026, 11, 22, 4, 20, 31, tzinfo=UTC)
    await service.take(inspection(250, "due"), now=now)
    [row] = await service.rows("SELECT offered_at, rank_at, route_team_at, route_anyone_at FROM call_task")
    assert row.rank_at == now + timedelta(hours=QUEUE.rank_offset_h[5])
    assert (row.route_team_at, row.route_anyone_at) == (now + timedelta(minutes=10), now + timedelta(minutes=20))
