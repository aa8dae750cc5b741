"""The call queue on the real database and on the simulated one: SQLAlchemy Core, which is taught by shape."""

import asyncio

import pytest
from msgspec.structs import asdict
from sqlalchemy import Insert
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import CallState, CallTask, ExpertId, task_id_of
from telemetry_svc.events import Alert, Severity
from telemetry_svc.notify.claims import CallDesk, Holder, Refusal
from telemetry_svc.notify.notifier import Notifier
from telemetry_svc.store import call_tasks, commands, machines
from telemetry_svc.store.call_claims import Claimant, Lease
from telemetry_svc.store.call_outcomes import Told, Words
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.store.refusals import DATABASE_ERRORS, refusal_of
from telemetry_svc.store.refusals import Refusal as Meaning
from telemetry_svc.store.schema.calls import call_task
from telemetry_svc.telemetry import Machine, MachineId
from tests.notify.alerts import fault, inspection, reason_id
from tests.simulation.conftest import Site
from tests.simulation.roles import new_desk, queues, register_machine
from tests.simulation.virtual_time import START
from tests.simulation.workload import EDITION

M, N = MachineId("SIM-000"), MachineId("SIM-001")
ANNA, BERND = Claimant(ExpertId("anna")), Claimant(ExpertId("bernd"))


async def register(site: Site, *machine_ids: MachineId, customer_id: str | None = None) -> None:
    async with site.engine.begin() as connection:
        for machine_id in machine_ids:
            machine = Machine(machine_id, 22.5, EDITION, customer_id=customer_id)
            await register_machine(connection, machine, contacts=1)


async def told(site: Site, *alerts: Alert) -> None:
    async with site.engine.begin() as connection:
        assert await Notifier(queues()).apply(connection, alerts, await call_tasks.clock(connection)) == ()


async def tasks(site: Site) -> dict[MachineId, CallTask]:
    async with site.engine.begin() as connection:
        return await call_tasks.lock_open(connection, [M, N])


async def claim(connection: AsyncConnection, claimant: Claimant, most: int = 1) -> list[Lease]:
    leases = await new_desk().claim(connection, claimant, most, 60)
    assert isinstance(leases, list)
    return leases


async def test_reasons_join_are_replaced_and_end(site: Site) -> None:
    await register(site, M)
    await told(site, inspection(250, "upcoming", M), fault(Severity.MAJOR, machine=M))
    await told(site, inspection(250, "due", M), inspection(250, "upcoming", M))
    task = (await tasks(site))[M]
    assert [(reason.stage, reason.place) for reason in task.open_reasons] == [("due", 0), (None, 1)]
    assert (task.state, task.contact_count) == (CallState.PENDING, 1)
    await told(site, inspection(250, "completed", M))
    assert [reason.kind for reason in (await tasks(site))[M].open_reasons] == ["fault"]
    await told(site, inspection(250, "overdue", M))
    assert [reason.kind for reason in (await tasks(site))[M].open_reasons] == ["fault"]


async def test_a_machine_that_nobody_registered_has_no_number_to_call(site: Site) -> None:
    await told(site, inspection(250, "due", M))
    assert (await tasks(site))[M].state is CallState.ESCALATED


async def test_two_batches_of_one_machine_come_one_after_the_other(site: Site) -> None:
    await register(site, M)
    async with site.engine.begin() as connection:
        await Notifier(queues()).apply(connection, [inspection(250, "due", M)], await call_tasks.clock(connection))
        second = asyncio.create_task(told(site, fault(Severity.MAJOR, machine=M)))
        await asyncio.sleep(0.2)
        assert not second.done()
    await second
    assert len((await tasks(site))[M].open_reasons) == 2


async def test_a_second_open_task_of_a_machine_is_refused(site: Site) -> None:
    await register(site, M)
    await told(site, inspection(250, "due", M), fault(Severity.MAJOR, machine=N))
    opened = (await tasks(site))[M]
    other = task_id_of(reason_id(fault(Severity.MAJOR, machine=M)))
    with pytest.raises(DATABASE_ERRORS) as refused:
        async with site.engine.begin() as connection:
            await connection.execute(_copy_of(opened, other))
    assert refusal_of(refused.value) is Meaning.DATA


def _copy_of(task: CallTask, task_id: object) -> Insert:
    row = asdict(task) | {"task_id": task_id, "rejected_by": []}
    del row["reasons"]
    return call_task.insert().values(row)


async def test_a_task_is_leased_to_one_and_again_when_it_was_given_back(site: Site) -> None:
    await register(site, M, N)
    await told(site, inspection(250, "due", M), fault(Severity.CRITICAL, machine=N))
    async with site.engine.begin() as first:
        [lease] = await claim(first, ANNA)
        assert lease.task.machine_id == N, "the most urgent first"
        async with site.engine.begin() as second:
            [other] = await claim(second, BERND, most=2)
            assert other.task.machine_id == M, "what is being claimed is passed over"
    async with site.engine.begin() as connection:
        assert await claim(connection, BERND) == []
        released = await new_desk().release(connection, lease.task.task_id, Holder(str(lease.token)))
        assert isinstance(released, CallTask)
    async with site.engine.begin() as connection:
        [again] = await claim(connection, BERND)
        assert (again.task.task_id, again.token == lease.token) == (lease.task.task_id, False)
        stale = await new_desk().release(connection, lease.task.task_id, Holder(str(lease.token)))
        assert stale is Refusal.STALE_TOKEN


async def test_a_task_of_ones_choice_is_leased_to_one(site: Site) -> None:
    await register(site, M, N)
    await told(site, inspection(250, "due", M), inspection(250, "due", N))
    chosen = (await tasks(site))[N]
    async with site.engine.begin() as connection:
        lease = await new_desk().claim_task(connection, ANNA, chosen.task_id, 60)
        assert isinstance(lease, Lease)
        assert lease.task.task_id == chosen.task_id
    async with site.engine.begin() as connection:
        assert await new_desk().claim_task(connection, BERND, chosen.task_id, 60) is Refusal.NOT_OFFERED
        assert [one.task.machine_id for one in await claim(connection, BERND, 2)] == [M]


async def test_an_outcome_ends_the_task_and_what_joined_meanwhile_goes_on(site: Site) -> None:
    await register(site, M)
    await told(site, inspection(250, "due", M))
    async with site.engine.begin() as connection:
        [lease] = await claim(connection, ANNA)
        assert [reason.shown for reason in lease.task.open_reasons] == [True]
    await told(site, fault(Severity.MAJOR, machine=M))
    async with site.engine.begin() as connection:
        holder, report = Holder(str(lease.token)), Told("answered_booked", Words())
        settled = await new_desk().settle(connection, lease.task.task_id, holder, report, None)
        assert isinstance(settled, CallTask)
        assert settled.state is CallState.COMPLETED
    rest = (await tasks(site))[M]
    assert [reason.kind for reason in rest.open_reasons] == ["fault"]
    async with site.engine.begin() as connection:
        assert await call_tasks.get(connection, rest.task_id) == rest
        assert await call_tasks.machine_of(connection, rest.task_id) == M


async def test_a_lease_that_ran_out_comes_back(site: Site) -> None:
    await register(site, M)
    await told(site, inspection(250, "due", M))
    async with site.engine.begin() as connection:
        await new_desk().claim(connection, ANNA, 1, 0.01)
    await asyncio.sleep(0.05)
    async with site.engine.begin() as connection:
        assert await new_desk().sweep(connection) == 1
    async with site.engine.begin() as connection:
        assert await new_desk().sweep(connection) == 0
    assert (await tasks(site))[M].state is CallState.PENDING


async def test_room_is_what_is_left_of_the_leases(site: Site) -> None:
    await register(site, M, N, customer_id="C")
    await told(site, inspection(250, "due", M), inspection(250, "due", N))
    desk: CallDesk = new_desk()
    async with site.engine.begin() as connection:
        leases = await desk.claim(connection, ANNA, 50, 60)
        assert isinstance(leases, list)
        assert {lease.task.machine_id for lease in leases} == {M, N}


async def test_a_machine_is_registered_once(site: Site) -> None:
    row = MachineRow(Machine(M, 22.5, EDITION), START, START)
    async with site.engine.begin() as connection:
        assert await machines.insert_new(connection, [row]) == {M}
        assert await machines.insert_new(connection, [row]) == frozenset()
        assert list(await machines.lock(connection, [M, N])) == [M]
        assert await commands.get(connection, task_id_of(reason_id(inspection(250, "due", M)))) is None
