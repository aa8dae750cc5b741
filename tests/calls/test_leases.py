"""What holds a call and what ends the hold: renewed, released, rejected, run out, settled, settled late."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from telemetry_svc.calls import AlertId, CallState, CallTask, ExpertId, StateReason
from telemetry_svc.events import Severity
from telemetry_svc.notify.claims import BadField, Holder, Refusal
from telemetry_svc.store import contacts, machines
from telemetry_svc.store.call_claims import Lease
from telemetry_svc.store.call_outcomes import Appointment, Told, Words
from telemetry_svc.telemetry import MachineId
from tests.calls.service import CUSTOMER, MARKED_NAME, CallService
from tests.notify.alerts import fault, inspection, reason_id

LEASE_OVER = "UPDATE call_task SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE state = 'claimed'"
WAIT_OVER = "UPDATE call_task SET not_before = clock_timestamp() - interval '1 second'"


@pytest.fixture
async def machine_id(service: CallService) -> MachineId:
    """A machine with one pending task."""
    [machine_id] = await service.register("ZE215-000017")
    await service.take(inspection(250, "due"))
    return machine_id


async def settle(
    service: CallService,
    lease: Lease,
    outcome: str,
    *,
    reasons_done: frozenset[AlertId] | None = None,
    callback_at: datetime | None = None,
    words: Words | None = None,
) -> CallTask | Refusal | BadField:
    told = Told(outcome, words or Words(), reasons_done)
    async with service.engine.begin() as connection:
        holder = Holder(str(lease.token))
        return await service.desk.settle(connection, lease.task.task_id, holder, told, callback_at)


async def release(service: CallService, lease: Lease) -> CallTask | Refusal:
    async with service.engine.begin() as connection:
        return await service.desk.release(connection, lease.task.task_id, Holder(str(lease.token)))


async def reject(service: CallService, lease: Lease) -> CallTask | Refusal:
    async with service.engine.begin() as connection:
        return await service.desk.reject(connection, lease.task.task_id, Holder(str(lease.token)))


async def renew(service: CallService, lease: Lease, lease_s: float = 300) -> Lease | Refusal:
    async with service.engine.begin() as connection:
        return await service.desk.renew(connection, lease.task.task_id, Holder(str(lease.token)), lease_s)


async def test_released_it_is_offered_again_at_once_with_its_rank(service: CallService, machine_id: MachineId) -> None:
    before = await service.task_of(machine_id)
    [lease] = await service.claim()
    assert isinstance(await release(service, lease), CallTask)
    after = await service.task_of(machine_id)
    assert (after.state, after.rank_at, after.offered_at) == (CallState.PENDING, before.rank_at, before.offered_at)
    [again] = await service.claim()
    assert again.token != lease.token


async def test_rejected_it_is_offered_to_others_alone(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim("EXP-9")
    assert isinstance(await reject(service, lease), CallTask)
    assert await service.claim("EXP-9") == []
    assert len(await service.claim("EXP-8")) == 1


async def test_renewed_it_runs_anew_and_tells_nobody(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim(lease_s=60)
    told = await service.count("outbox")
    renewed = await renew(service, lease, 300)
    assert isinstance(renewed, Lease)
    assert (renewed.token, renewed.left_s) == (lease.token, 300)
    assert timedelta(seconds=239) < renewed.expires_at - lease.expires_at < timedelta(seconds=270)
    assert await service.count("outbox") == told


async def test_a_lease_that_ran_out_comes_back_and_is_no_attempt(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim()
    assert await service.sweep() == 0
    await service.run(LEASE_OVER)
    assert await service.sweep() == 1
    task = await service.task_of(machine_id)
    assert (task.state, task.attempts, task.offered_at) == (CallState.PENDING, 0, lease.task.offered_at)
    assert await service.count("call_history WHERE step = 'lapsed' AND by = 'EXP-9'") == 1
    assert await service.sweep() == 0


async def test_the_late_outcome_of_a_call_that_was_made_still_counts(
    service: CallService, machine_id: MachineId
) -> None:
    [lease] = await service.claim()
    await service.run(LEASE_OVER)
    await service.sweep()
    settled = await settle(service, lease, "answered_booked")
    assert isinstance(settled, CallTask)
    assert (settled.state, settled.assigned_to) == (CallState.COMPLETED, "EXP-9")
    assert await service.claim() == []


async def test_the_old_token_is_stale_once_somebody_else_has_claimed(
    service: CallService, machine_id: MachineId
) -> None:
    [old] = await service.claim("EXP-1")
    await service.run(LEASE_OVER)
    await service.sweep()
    [new] = await service.claim("EXP-2")
    before = (await service.task_of(machine_id), await service.count("outbox"))
    assert await settle(service, old, "answered_booked") is Refusal.STALE_TOKEN
    assert await renew(service, old) is Refusal.STALE_TOKEN
    assert await release(service, old) is Refusal.STALE_TOKEN
    assert await reject(service, old) is Refusal.STALE_TOKEN
    assert (await service.task_of(machine_id), await service.count("outbox")) == before
    assert isinstance(await settle(service, new, "answered_booked"), CallTask)


@pytest.mark.parametrize("ending", ["released", "rejected", "settled", "waiting"])
async def test_a_token_is_stale_after(service: CallService, machine_id: MachineId, ending: str) -> None:
    [lease] = await service.claim()
    match ending:
        case "released":
            await release(service, lease)
        case "rejected":
            await reject(service, lease)
        case "settled":
            await settle(service, lease, "answered_info")
        case _:
            await settle(service, lease, "no_answer")
    assert await settle(service, lease, "answered_booked") is Refusal.STALE_TOKEN
    assert await service.count("call_outcome") == (ending in {"settled", "waiting"})


async def test_a_lease_that_ran_out_and_was_not_taken_is_taken_up_again(
    service: CallService, machine_id: MachineId
) -> None:
    [lease] = await service.claim()
    await service.run(LEASE_OVER)
    await service.sweep()
    renewed = await renew(service, lease, 60)
    assert isinstance(renewed, Lease)
    assert ((await service.task_of(machine_id)).state, renewed.token) == (CallState.CLAIMED, lease.token)
    assert await service.claim("EXP-8") == []


async def test_it_is_not_taken_up_again_by_one_whose_hands_are_full(
    service: CallService, machine_id: MachineId
) -> None:
    [lease] = await service.claim()
    await service.run(LEASE_OVER)
    await service.sweep()
    others = await service.register(*(f"M-{number:02}" for number in range(50)))
    await service.run("UPDATE call_task SET rank_at = 'infinity'")
    await service.raise_one_each(others)
    assert len(await service.claim(most=50)) == 50
    assert await renew(service, lease) is Refusal.NO_ROOM
    assert (await service.task_of(machine_id)).state is CallState.PENDING


async def test_a_lease_that_ran_out_on_a_task_that_waits_again_is_not_renewed(
    service: CallService, machine_id: MachineId
) -> None:
    [lease] = await service.claim()
    await settle(service, lease, "no_answer")
    await service.take(fault(Severity.MAJOR))
    await service.run(WAIT_OVER)
    await service.sweep()
    [again] = await service.claim()
    await service.run(LEASE_OVER)
    await service.sweep()
    await service.take(fault(Severity.MAJOR, "cleared"))
    assert (await service.task_of(machine_id)).state is CallState.WAITING_WINDOW
    assert await renew(service, again) is Refusal.NOT_OFFERED


async def test_a_strangers_token_and_a_strangers_key(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim("EXP-9")
    task_id = lease.task.task_id
    async with service.engine.begin() as connection:
        desk = service.desk
        assert await desk.release(connection, task_id, Holder(str(uuid4()))) is Refusal.STALE_TOKEN
        assert await desk.release(connection, task_id, Holder("no uuid at all")) is Refusal.STALE_TOKEN
        others = Holder(str(lease.token), speaks_for=ExpertId("EXP-8"))
        assert await desk.release(connection, task_id, others) is Refusal.NOT_YOURS
        assert await desk.release(connection, uuid4(), Holder(str(lease.token))) is Refusal.UNKNOWN_TASK  # type: ignore[arg-type]
    assert (await service.task_of(machine_id)).state is CallState.CLAIMED


async def test_waiting_is_over_when_its_time_has_come(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim()
    called_at = datetime.now(UTC)
    await settle(service, lease, "no_answer")
    task = await service.task_of(machine_id)
    assert task.state is CallState.WAITING_WINDOW
    assert task.not_before is not None
    assert abs(task.not_before - called_at - timedelta(hours=3)) < timedelta(seconds=30)
    assert (await service.sweep(), await service.claim()) == (0, [])
    await service.run(WAIT_OVER)
    assert await service.sweep() == 1
    task = await service.task_of(machine_id)
    assert (task.state, task.offered_at) == (CallState.PENDING, task.not_before)
    [lease] = await service.claim()
    assert lease.task.attempts == 1


async def test_what_is_left_goes_on_in_the_rests_task(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim()
    await service.take(fault(Severity.CRITICAL))
    settled = await settle(service, lease, "answered_booked")
    assert isinstance(settled, CallTask)
    rest = await service.task_of(machine_id)
    assert [r.alert_id for r in rest.reasons] == [reason_id(fault(Severity.CRITICAL))]
    assert (settled.state, rest.state, rest.priority) == (CallState.COMPLETED, CallState.PENDING, 1)
    assert await service.take(fault(Severity.CRITICAL), inspection(250, "due")) == ()
    assert await service.task_of(machine_id) == rest
    assert await service.count("call_reason WHERE ended = 'carried'") == 1


async def test_an_alert_during_the_outcome_finds_the_rests_task(service: CallService, machine_id: MachineId) -> None:
    """The notifier waits for the outcome; then the open task is another one than it was."""
    [lease] = await service.claim()
    await service.take(inspection(500, "due"))
    async with service.engine.begin() as connection:
        told = Told("answered_info", Words())
        await service.desk.settle(connection, lease.task.task_id, Holder(str(lease.token)), told, None)
        taking = asyncio.create_task(service.take(inspection(1000, "due")))
        await asyncio.sleep(0.2)
        assert not taking.done()
    await taking
    rest = await service.task_of(machine_id)
    assert [r.milestone_h for r in rest.reasons] == [500, 1000]


async def test_in_a_call_a_lost_cause_is_flagged_then_cancelled(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim()
    await service.take(inspection(250, "completed"))
    task = await service.task_of(machine_id)
    assert (task.state, task.flagged) == (CallState.CLAIMED, True)
    renewed = await renew(service, lease)
    assert isinstance(renewed, Lease)
    assert renewed.task.flagged
    await service.run(LEASE_OVER)
    await service.sweep()
    [row] = await service.rows("SELECT state FROM call_task")
    assert row.state == "cancelled"
    assert [m["data"]["flagged"] for m in await service.announced()] == [False, False, True, False]


@pytest.mark.parametrize(
    ("outcome", "callback_at", "reasons_done", "field"),
    [
        pytest.param("no_such_outcome", None, None, "outcome", id="unknown-outcome"),
        pytest.param("callback_later", datetime(2020, 1, 1, tzinfo=UTC), None, "callback_at", id="in-the-past"),
        pytest.param("answered_info", None, frozenset({AlertId(uuid4())}), "reasons_done", id="no-reason-of-it"),
    ],
)
async def test_what_does_not_fit_is_named_and_changes_nothing(
    service: CallService,
    machine_id: MachineId,
    outcome: str,
    callback_at: datetime | None,
    reasons_done: frozenset[AlertId] | None,
    field: str,
) -> None:
    [lease] = await service.claim()
    before = (await service.task_of(machine_id), await service.count("outbox"))
    refused = await settle(service, lease, outcome, callback_at=callback_at, reasons_done=reasons_done)
    assert isinstance(refused, BadField)
    assert refused.field == field
    assert (await service.task_of(machine_id), await service.count("outbox")) == before
    assert await service.count("call_outcome") == 0


async def test_the_words_of_a_report_are_sealed(service: CallService, machine_id: MachineId) -> None:
    [lease] = await service.claim()
    words = Words(f"spoke with {MARKED_NAME}", Appointment("2026-11-23T09:00:00+08:00", "site 3", MARKED_NAME))
    await settle(service, lease, "answered_booked", words=words)
    [row] = await service.rows("SELECT outcome, expert_id, sealed FROM call_outcome")
    assert (row.outcome, row.expert_id) == ("answered_booked", "EXP-9")
    assert row.sealed is not None
    assert MARKED_NAME.encode() not in bytes(row.sealed)


async def change_contacts(service: CallService, machine_id: MachineId, *, known: bool) -> None:
    async with service.engine.begin() as connection:
        await contacts.replace(connection, service.keyring, {machine_id: {0: CUSTOMER} if known else {}})
        await service.desk.contacts_changed(connection, [machine_id])


async def test_a_number_registered_later_lets_the_task_go_on_as_if_new(service: CallService) -> None:
    [machine_id] = await service.register("ZE215-000017", people=())
    await service.take(inspection(250, "due"))
    before = await service.task_of(machine_id)
    assert (before.state_reason, await service.claim()) == (StateReason.NO_CONTACT, [])
    await change_contacts(service, machine_id, known=True)
    task = await service.task_of(machine_id)
    assert (task.task_id, task.state, task.state_reason) == (before.task_id, CallState.PENDING, None)
    assert len(await service.claim()) == 1


async def test_the_last_number_gone_stops_the_task(service: CallService, machine_id: MachineId) -> None:
    await change_contacts(service, machine_id, known=False)
    assert (await service.task_of(machine_id)).state_reason is StateReason.NO_CONTACT


async def test_a_registration_while_an_alert_is_taken_is_not_missed(service: CallService) -> None:
    """Both hold the machine's registration, so one of them sees what the other did."""
    [machine_id] = await service.register("ZE215-000017", people=())
    async with service.engine.begin() as connection:
        await machines.lock(connection, [machine_id])
        await contacts.replace(connection, service.keyring, {machine_id: {0: CUSTOMER}})
        taking = asyncio.create_task(service.take(inspection(250, "due")))
        await asyncio.sleep(0.2)
        await service.desk.contacts_changed(connection, [machine_id])
    await taking
    assert (await service.task_of(machine_id)).state is CallState.PENDING


async def test_a_retired_machines_task_is_cancelled(service: CallService, machine_id: MachineId) -> None:
    await service.run("UPDATE machine SET status = 'retired'")
    async with service.engine.begin() as connection:
        await service.desk.contacts_changed(connection, [machine_id])
    [row] = await service.rows("SELECT state FROM call_task")
    assert row.state == "cancelled"


async def test_another_expert_gets_the_waiting_task(service: CallService) -> None:
    [machine_id] = await service.register("ZE215-000017", expert_id="EXP-1")
    await service.take(inspection(250, "due"))
    await service.run("UPDATE machine SET expert_id = 'EXP-2'")
    async with service.engine.begin() as connection:
        await service.desk.contacts_changed(connection, [machine_id])
    assert await service.claim("EXP-1") == []
    assert len(await service.claim("EXP-2")) == 1
