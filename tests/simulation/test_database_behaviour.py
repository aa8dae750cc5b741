"""What the service leans on in PostgreSQL, asked of the real and of the simulated one through the store's functions.

Whoever teaches the simulation another statement adds the promise here that it is taught for.
"""

import asyncio
import uuid
from datetime import datetime, timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store import parked
from telemetry_svc.store.command_outcomes import CommandOutcome, settle_commands, settled_commands
from telemetry_svc.store.dead_letters import (
    DeadLetter,
    TakenUp,
    WaitingRecord,
    add_dead_letters,
    letter_at,
    mark_taken_up,
    requested_letters,
    still_waiting,
    waiting_for_registration,
)
from telemetry_svc.store.events import EventRow, add_events
from telemetry_svc.store.history import add_pings, known_pings, make_weeks, weeks_around
from telemetry_svc.store.ownership import FencedError, Move, Owned, advance, take_over, terminate_owners
from telemetry_svc.store.parked import Parking
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, refusal_of
from telemetry_svc.store.states import StateRow, due_machines, load_states, save_states
from telemetry_svc.telemetry import MachineId
from tests.simulation.conftest import Site
from tests.simulation.virtual_time import START
from tests.store.pings import stored

GROUP = "behaviour"
M = MachineId("SIM-000")
N = MachineId("SIM-001")


class Rollback(Exception):
    """Ends a transaction that must leave nothing."""


async def take(site: Site, *partitions: int) -> dict[int, Owned]:
    async with site.engine.begin() as connection:
        owned = await take_over(connection, GROUP, dict.fromkeys(partitions, (10, 20)))
    return {one.partition: one for one in owned}


def move(owned: Owned, **fields: object) -> Move:
    a, b = owned.next_offsets
    moved = Move(owned.partition, owned.epoch, (a, b), (a + 1, b + 2), owned.apply_seq + 3)
    return Move(**{name: getattr(moved, name) for name in Move.__struct_fields__} | fields)


# --- the fence ---


async def test_a_takeover_raises_the_epoch_and_keeps_the_offsets(site: Site) -> None:
    assert await take(site, 0, 1) == {0: Owned(0, 1, (10, 20), 0), 1: Owned(1, 1, (10, 20), 0)}
    owned = await take(site, 1)
    async with site.engine.begin() as connection:
        await advance(connection, GROUP, [move(owned[1])])
    assert await take(site, 0, 1) == {0: Owned(0, 2, (10, 20), 0), 1: Owned(1, 3, (11, 22), 3)}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"epoch": 0}, id="the_epoch_before"),
        pytest.param({"epoch": 2}, id="another_epoch"),
        pytest.param({"before": (11, 20)}, id="offset_of_the_first_topic"),
        pytest.param({"before": (10, 19)}, id="offset_of_the_second_topic"),
        pytest.param({"partition": 5}, id="a_partition_that_nobody_owns"),
    ],
)
async def test_a_batch_that_was_outrun_moves_nothing(site: Site, wrong: dict[str, object]) -> None:
    owned = await take(site, 0, 1)
    with pytest.raises(FencedError):
        async with site.engine.begin() as connection:
            await advance(connection, GROUP, [move(owned[0]), move(owned[1], **wrong)])
    assert await take(site, 0, 1) == {0: Owned(0, 2, (10, 20), 0), 1: Owned(1, 2, (10, 20), 0)}


async def test_a_batch_that_waited_for_another_of_its_partition_is_fenced(site: Site) -> None:
    """READ COMMITTED: after the wait it sees what the other one has committed."""
    owned = await take(site, 0)

    async def store() -> None:
        async with site.engine.begin() as connection:
            await advance(connection, GROUP, [move(owned[0])])

    async with site.engine.begin() as connection:
        await advance(connection, GROUP, [move(owned[0])])
        second = asyncio.create_task(store())
        await asyncio.sleep(0.2)
        assert not second.done()
    with pytest.raises(FencedError):
        await second


async def test_a_takeover_waits_in_vain_then_ends_the_session_that_sleeps_on_the_row(site: Site) -> None:
    await take(site, 0)
    asleep = await site.engine.connect()
    with pytest.raises(DATABASE_ERRORS):
        await _outrun(site, asleep)
    await asleep.invalidate()
    await asleep.close()
    assert (await take(site, 0))[0] == Owned(0, 4, (10, 20), 0)


async def _outrun(site: Site, asleep: AsyncConnection) -> None:
    """The owner on this connection sleeps in its transaction, and wakes when another has taken over."""
    async with asleep.begin():
        [owned] = await take_over(asleep, GROUP, {0: (0, 0)})
    async with asleep.begin():
        await advance(asleep, GROUP, [move(owned)])
        with pytest.raises(DATABASE_ERRORS) as refused:
            await take(site, 0)
        assert refusal_of(refused.value) is Refusal.LOCKED
        async with site.engine.begin() as connection:
            assert await terminate_owners(connection, GROUP, [0]) == 1
        assert (await take(site, 0))[0].epoch == 3
        await advance(asleep, GROUP, [move(owned)])


async def test_of_two_that_wait_for_each_other_one_is_refused(site: Site) -> None:
    both = asyncio.Barrier(2)

    async def crossing(*partitions: int) -> str:
        try:
            async with site.engine.begin() as connection:
                await take_over(connection, GROUP, {partitions[0]: (0, 0)})
                await both.wait()
                await take_over(connection, GROUP, {partitions[1]: (0, 0)})
        except DATABASE_ERRORS as error:
            return type(getattr(error, "orig", None) or error).__name__
        return "done"

    await take(site, 0, 1)
    ends = sorted(await asyncio.gather(crossing(0, 1), crossing(1, 0)))
    assert ends[1] == "done"
    assert ends[0] != "done"


# --- history ---


async def _copied_in_vain(site: Site, *, first: str) -> None:
    async with site.engine.begin() as connection:
        if first == "SELECT":
            await settled_commands(connection, [(M, uuid.uuid4())])
        await add_pings(connection, "ping", [stored(M)])
        raise Rollback


async def test_what_is_copied_goes_with_the_transaction(site: Site) -> None:
    await take(site, 0)
    with pytest.raises(Rollback):
        await _copied_in_vain(site, first="SELECT")
    assert await _known(site, stored(M)) == []


async def test_a_copy_before_any_statement_commits_by_itself(site: Site) -> None:
    """The trap of decision 11, so that a transaction that begins with a COPY is seen to be broken here too."""
    with pytest.raises(Rollback):
        await _copied_in_vain(site, first="COPY")
    assert await _known(site, stored(M)) == [M]


async def test_a_ping_that_is_there_is_refused_and_the_transaction_is_over(site: Site) -> None:
    await _store(site, stored(M))
    with pytest.raises(DATABASE_ERRORS) as refused:
        await _store(site, stored(N), stored(M))
    assert refusal_of(refused.value) is Refusal.DATA
    with pytest.raises(DATABASE_ERRORS):
        await _go_on_after_a_refusal(site)
    assert await _known(site, stored(M), stored(N)) == [M]


async def _go_on_after_a_refusal(site: Site) -> None:
    async with site.engine.begin() as connection:
        await settled_commands(connection, [(M, uuid.uuid4())])
        with pytest.raises(asyncpg.UniqueViolationError):
            await add_pings(connection, "ping", [stored(M)])
        await settled_commands(connection, [(M, uuid.uuid4())])


async def test_a_repeat_is_found_in_both_tables(site: Site) -> None:
    async with site.engine.begin() as connection:
        await settled_commands(connection, [(M, uuid.uuid4())])
        await add_pings(connection, "ping", [stored(M)])
        await add_pings(connection, "ping_outlier", [stored(N, dedupe=7)])
    assert await _known(site, stored(M), stored(N, dedupe=7), stored(N, dedupe=8)) == [M, N]


async def _store(site: Site, *pings: object) -> None:
    async with site.engine.begin() as connection:
        await settled_commands(connection, [(M, uuid.uuid4())])
        await add_pings(connection, "ping", pings)  # type: ignore[arg-type]


async def _known(site: Site, *pings: object) -> list[str]:
    keys = [(one.ping.machine_id, one.ping.recorded_at, one.dedupe) for one in pings]  # type: ignore[attr-defined]
    async with site.engine.begin() as connection:
        return sorted(key[0] for key in await known_pings(connection, keys))


# --- facts, states, commands, letters ---


def fact(machine_id: MachineId, number: int) -> EventRow:
    return EventRow(machine_id, uuid.UUID(int=number), "t", "r", "s", "due", START, "{}")


async def test_a_fact_is_new_once_also_for_one_who_had_to_wait(site: Site) -> None:
    async def add() -> set[uuid.UUID]:
        async with site.engine.begin() as connection:
            return await add_events(connection, [fact(M, 1), fact(M, 2)])

    async with site.engine.begin() as connection:
        assert await add_events(connection, [fact(M, 1), fact(N, 1)]) == {uuid.UUID(int=1)}
        waiting = asyncio.create_task(add())
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert await waiting == {uuid.UUID(int=2)}


async def test_states_are_replaced_and_only_new_ones_inserted(site: Site) -> None:
    def row(machine_id: MachineId, state: bytes, check_at: datetime | None = None) -> StateRow:
        return StateRow(machine_id, 3, check_at, state)

    async with site.engine.begin() as connection:
        await save_states(connection, [row(M, b"1", START)], new=True)
        await save_states(connection, [row(M, b"2", START), row(N, b"1")], new=False)
        assert dict(await load_states(connection, [M, N])) == {M: b"2"}
        await save_states(connection, [row(M, b"3", START), row(N, b"1", START - timedelta(hours=1))], new=True)
    async with site.engine.begin() as connection:
        assert dict(await load_states(connection, [N, M])) == {M: b"3", N: b"1"}
        assert list(await due_machines(connection, 3, START, at_most=9)) == [N, M]
        assert list(await due_machines(connection, 3, START, at_most=1)) == [N]
        assert list(await due_machines(connection, 3, START - timedelta(hours=2), at_most=9)) == []
        assert list(await due_machines(connection, 4, START, at_most=9)) == []


async def test_a_command_is_settled_once_it_was_applied_or_rejected(site: Site) -> None:
    ids = [uuid.UUID(int=number) for number in (1, 2, 3)]
    outcomes = [
        CommandOutcome(M, one, "k", "{}", START, 0, 1, why) for one, why in zip(ids, (None, "no"), strict=False)
    ]
    async with site.engine.begin() as connection:
        await settle_commands(connection, outcomes)
        await settle_commands(connection, outcomes[:1])
    async with site.engine.begin() as connection:
        assert await settled_commands(connection, [(M, one) for one in ids]) == set(ids[:2])
        assert await settled_commands(connection, [(N, one) for one in ids]) == set()


def letter(offset: int, machine_id: MachineId | None = M, error_class: str = "unknown_machine") -> DeadLetter:
    at = START + timedelta(seconds=-offset)
    return DeadLetter("pings", 1, offset, error_class, "m", at, b"k", b"v", None, (("h", b"\xff"),), machine_id)


async def test_letters_wait_for_their_registration_once_the_oldest_first(site: Site) -> None:
    async with site.engine.begin() as connection:
        new = await add_dead_letters(connection, [letter(4), letter(5), letter(6, N), letter(7, M, "invalid")])
        assert new == {("pings", 1, offset) for offset in (4, 5, 6, 7)}
        assert await add_dead_letters(connection, [letter(5), letter(8)]) == {("pings", 1, 8)}
    async with site.engine.begin() as connection:
        waiting = await waiting_for_registration(connection, [M], 10)
        assert [one.offset for one in waiting] == [8, 5, 4]
        assert waiting[0].headers == (("h", b"\xff"),)
        assert [one.offset for one in await waiting_for_registration(connection, [M], 2)] == [8, 5]
        await mark_taken_up(connection, [TakenUp(("pings", 1, 8), "replayed"), TakenUp(("pings", 1, 5), "repeated")])
        assert [one.offset for one in await waiting_for_registration(connection, [M], 10)] == [4]


async def test_a_letter_has_its_place_and_waits_until_it_was_taken_up(site: Site) -> None:
    async with site.engine.begin() as connection:
        await add_dead_letters(connection, [letter(4), letter(5, N), letter(6, N, "invalid")])
    async with site.engine.begin() as connection:
        found = await letter_at(connection, ("pings", 1, 4))
        assert found == WaitingRecord("pings", 1, 4, START - timedelta(seconds=4), b"k", b"v", (("h", b"\xff"),))
        assert await letter_at(connection, ("pings", 1, 9)) is None
        assert await still_waiting(connection, [M, N]) == {M, N}
        await mark_taken_up(connection, [TakenUp(("pings", 1, 4), "replayed")])
        assert await still_waiting(connection, [M, N]) == {N}
        await parked.put_behind(connection, {("pings", 1, 5): M})
        assert await still_waiting(connection, [M, N]) == {M}
        assert await requested_letters(connection, 1, ["pings"], 10) == [], "nobody asked for one"


async def test_weeks_that_are_there_are_not_made_again(site: Site) -> None:
    async with site.engine.begin() as connection:
        assert await make_weeks(connection, weeks_around(START)) == []


async def test_a_parked_machine_has_its_turn_and_its_records_in_order(site: Site) -> None:
    records = [
        (M, WaitingRecord("pings", 1, offset, START, b"k", b"v", (("h", b"x"), ("null", None)))) for offset in (9, 3)
    ]
    async with site.engine.begin() as connection:
        behind = [Parking(M, 1, ("pings", 1, 2), "why"), Parking(N, 1, None, "catching up")]
        await parked.park(connection, behind, timedelta(hours=1))
        await parked.hold(connection, records)
    async with site.engine.begin() as connection:
        assert await parked.parked_machines(connection, [0, 1]) == {M: True, N: False}
        assert await parked.due_machine(connection, 1) == parked.Parked(N, None, 0)
        assert await parked.due_machine(connection, 0) is None
        await parked.postpone(connection, N, timedelta(hours=1))
        assert await parked.due_machine(connection, 1) is None
        await parked.unpark(connection, N)
        held = await parked.held_records(connection, M, 10)
        assert [one.record for one in held] == [record for _, record in records]
        await parked.drop_held(connection, M, held[0].n)
        assert [one.record.offset for one in await parked.held_records(connection, M, 10)] == [3]
        waiting = await parked.waiting_to_be_tried(connection, ["pings"])
        assert waiting == parked.Waiting(frozenset(), 1)
