"""The fence on the real database: who may store, who may not, and what a sleeping owner can hold up."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store import ownership
from telemetry_svc.store.ownership import FencedError, Move, Offsets, Owned, advance, take_over, terminate_owners
from telemetry_svc.store.refusals import DATABASE_ERRORS, Refusal, refusal_of


class Group:
    """One consumer group of its own, and what PostgreSQL holds of it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.name = f"fence-{uuid.uuid4().hex[:8]}"

    async def take(self, starts: Mapping[int, Offsets]) -> dict[int, Owned]:
        async with self.engine.begin() as connection:
            return {one.partition: one for one in await take_over(connection, self.name, starts)}

    async def take_on(self, connection: AsyncConnection, starts: Mapping[int, Offsets]) -> dict[int, Owned]:
        """As an owner does it, whose session is the one written down."""
        async with connection.begin():
            return {one.partition: one for one in await take_over(connection, self.name, starts)}

    async def store(self, moves: Iterable[Move], mark: str) -> None:
        """A batch: the fence, then one row of results, then the commit."""
        async with self.engine.begin() as connection:
            await advance(connection, self.name, list(moves))
            await self.leave(connection, mark)

    async def leave(self, connection: AsyncConnection, mark: str) -> None:
        await connection.execute(
            text("INSERT INTO schedule_slot (schedule, slot) VALUES (:s, now())"), {"s": f"{self.name} {mark}"}
        )

    async def marks(self) -> list[str]:
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT schedule FROM schedule_slot WHERE schedule LIKE :s ORDER BY schedule"),
                {"s": f"{self.name} %"},
            )
            return [row[0].removeprefix(f"{self.name} ") for row in rows]

    async def rows(self) -> dict[int, tuple[int, Offsets, int]]:
        """Partition → epoch, next offsets, apply_seq."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT partition, owner_epoch, next_offset_a, next_offset_b, apply_seq FROM partition_owner"
                    " WHERE group_name = :g ORDER BY partition"
                ),
                {"g": self.name},
            )
            return {row[0]: (row[1], (row[2], row[3]), row[4]) for row in rows}

    async def pid_of(self, connection: AsyncConnection) -> int:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


@pytest.fixture
async def group(engine: AsyncEngine) -> AsyncIterator[Group]:
    group = Group(engine)
    yield group
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM partition_owner WHERE group_name = :g"), {"g": group.name})
        await connection.execute(text("DELETE FROM schedule_slot WHERE schedule LIKE :s"), {"s": f"{group.name} %"})


def step(owned: Owned, *, first: int = 10, second: int = 1) -> Move:
    a, b = owned.next_offsets
    return Move(owned.partition, owned.epoch, (a, b), (a + first, b + second), owned.apply_seq + first + second)


async def test_the_first_takeover_begins_where_it_is_told_and_later_ones_where_the_last_owner_was(
    group: Group,
) -> None:
    first = await group.take({3: (100, 7), 4: (0, 0)})
    assert first == {3: Owned(3, 1, (100, 7), 0), 4: Owned(4, 1, (0, 0), 0)}
    await group.store([step(first[3])], "stored")
    again = await group.take({3: (555, 555), 4: (555, 555)})
    assert again == {3: Owned(3, 2, (110, 8), 11), 4: Owned(4, 2, (0, 0), 0)}


async def test_a_batch_moves_offsets_and_counter_with_its_results(group: Group) -> None:
    owned = await group.take({0: (0, 0), 1: (5, 5)})
    await group.store([step(owned[1], first=3, second=0), step(owned[0], first=0, second=2)], "stored")
    assert await group.rows() == {0: (1, (0, 2), 2), 1: (1, (8, 5), 3)}
    assert await group.marks() == ["stored"]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"epoch": 1}, id="the_epoch_before"),
        pytest.param({"epoch": 3}, id="an_epoch_not_given_yet"),
        pytest.param({"before": (9, 0)}, id="first_topic_read_from_elsewhere"),
        pytest.param({"before": (0, 9)}, id="second_topic_read_from_elsewhere"),
        pytest.param({"partition": 5}, id="a_partition_nobody_took"),
    ],
)
async def test_what_does_not_fit_stores_nothing(group: Group, broken: dict[str, int | Offsets]) -> None:
    await group.take({0: (0, 0)})
    owned = await group.take({0: (0, 0)})
    right = step(owned[0])
    fields: dict[str, int | Offsets] = {name: getattr(right, name) for name in right.__struct_fields__}
    before = await group.rows()
    with pytest.raises(FencedError, match="1 of 1"):
        await group.store([Move(**(fields | broken))], "phantom")  # type: ignore[arg-type]
    assert await group.marks() == []
    assert await group.rows() == before


async def test_a_batch_repeated_after_a_commit_in_doubt_is_not_stored_twice(group: Group) -> None:
    owned = await group.take({0: (0, 0)})
    move = step(owned[0])
    await group.store([move], "once")
    with pytest.raises(FencedError):
        await group.store([move], "twice")
    assert await group.marks() == ["once"]
    assert (await group.rows())[0] == (1, (10, 1), 11)


async def test_one_stale_partition_takes_the_whole_batch_back(group: Group) -> None:
    owned = await group.take({0: (0, 0), 1: (0, 0), 2: (0, 0)})
    await group.take({1: (0, 0)})
    before = await group.rows()
    with pytest.raises(FencedError, match="1 of 3"):
        await group.store([step(one) for one in owned.values()], "phantom")
    assert await group.rows() == before
    assert await group.marks() == []


async def test_groups_do_not_fence_each_other(engine: AsyncEngine, group: Group) -> None:
    mine = await group.take({0: (0, 0)})
    other = Group(engine)
    await other.take({0: (0, 0)})
    await other.take({0: (0, 0)})
    await group.store([step(mine[0])], "stored")
    assert await group.marks() == ["stored"]


async def test_of_two_takers_at_once_exactly_one_is_the_owner(group: Group) -> None:
    starts = dict.fromkeys(range(6), (0, 0))
    takes = await asyncio.gather(*(group.take(starts) for _ in range(4)))
    epochs = [sorted({one.epoch for one in take.values()}) for take in takes]
    assert sorted(epochs) == [[1], [2], [3], [4]]
    stored = await asyncio.gather(
        *(group.store([step(one) for one in take.values()], f"{place}") for place, take in enumerate(takes)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in stored) == ["FencedError"] * 3 + ["NoneType"]
    assert await group.marks() == [str(epochs.index([4]))]


async def test_a_zombie_in_its_transaction_is_ended_and_its_commit_fails(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "LOCK_TIMEOUT_MS", 100)
    async with group.engine.connect() as zombie:
        owned = await group.take_on(zombie, {0: (0, 0), 1: (0, 0)})
        transaction = await zombie.begin()
        await advance(zombie, group.name, [step(owned[0])])
        await group.leave(zombie, "of the zombie")
        with pytest.raises(DBAPIError) as refused:
            await group.take({0: (0, 0), 1: (0, 0)})
        assert refusal_of(refused.value) is Refusal.LOCKED
        async with group.engine.begin() as connection:
            assert await terminate_owners(connection, group.name, [0, 1]) == 2
        taken = await group.take({0: (0, 0), 1: (0, 0)})
        assert {one.epoch for one in taken.values()} == {2}
        with pytest.raises(DATABASE_ERRORS):
            await transaction.commit()
        await zombie.invalidate()
    await group.store([step(one) for one in taken.values()], "of the new owner")
    assert await group.marks() == ["of the new owner"]


async def test_a_process_id_that_another_session_has_by_now_is_left_alone(group: Group) -> None:
    async with group.engine.connect() as owner:
        await group.take_on(owner, {0: (0, 0)})
        async with group.engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE partition_owner SET owner_backend_start = owner_backend_start - interval '1 second'"
                    " WHERE group_name = :g"
                ),
                {"g": group.name},
            )
        async with group.engine.begin() as connection:
            assert await terminate_owners(connection, group.name, [0]) == 0
        assert await group.pid_of(owner) > 0
        await owner.rollback()


async def test_only_the_owners_of_these_partitions_are_ended(group: Group) -> None:
    async with group.engine.connect() as one, group.engine.connect() as other:
        await group.take_on(one, {0: (0, 0)})
        await group.take_on(other, {1: (0, 0)})
        async with group.engine.begin() as connection:
            assert await terminate_owners(connection, group.name, [0]) == 1
        assert await group.pid_of(other) > 0
        with pytest.raises(DATABASE_ERRORS):
            await group.pid_of(one)
        await one.invalidate()


async def test_an_owner_that_takes_over_again_does_not_end_itself(group: Group) -> None:
    async with group.engine.connect() as owner:
        await group.take_on(owner, {0: (0, 0)})
        async with owner.begin():
            assert await terminate_owners(owner, group.name, [0]) == 0
        assert (await group.take_on(owner, {0: (0, 0)}))[0].epoch == 2


async def _in_descending_order(group: Group) -> dict[int, Owned]:
    """Three partitions whose rows lie in the table the other way round: a plain UPDATE would lock them so."""
    owned: dict[int, Owned] = {}
    for number in (3, 2, 1):
        owned |= await group.take({number: (0, 0)})
    return owned


@pytest.mark.parametrize("named", [(1, 2, 3), (3, 2, 1)], ids=["ascending", "descending"])
async def test_a_batch_locks_in_order_of_partition(group: Group, database_url: str, named: tuple[int, ...]) -> None:
    """Whatever order it names them in: so two batches never wait for each other."""
    owned = await _in_descending_order(group)
    async with _somebody_holds(group, database_url, 2) as held:
        batch = asyncio.create_task(group.store([step(owned[number]) for number in named], "stored"))
        await held.until_locked(1)
        assert not await held.is_locked(3)
    await batch
    assert await group.marks() == ["stored"]


async def test_a_takeover_locks_in_order_of_partition(group: Group, database_url: str) -> None:
    await _in_descending_order(group)
    async with _somebody_holds(group, database_url, 2) as held:
        takeover = asyncio.create_task(group.take(dict.fromkeys((3, 2, 1), (0, 0))))
        await held.until_locked(1)
        assert not await held.is_locked(3)
    assert {one.epoch for one in (await takeover).values()} == {2}


class Held:
    """A partition's row is held by another session until the end of the block; a third one looks at the others."""

    def __init__(self, group: Group, looker: asyncpg.Connection) -> None:
        self._group = group
        self._looker = looker

    async def is_locked(self, partition: int) -> bool:
        row = await self._looker.fetchrow(f"SELECT 1 {_ROW} FOR UPDATE SKIP LOCKED", self._group.name, partition)
        return row is None

    async def until_locked(self, partition: int) -> None:
        async with asyncio.timeout(10):
            while not await self.is_locked(partition):  # noqa: ASYNC110 - the database tells, by asking
                await asyncio.sleep(0.01)


_ROW = "FROM partition_owner WHERE group_name = $1 AND partition = $2"


@contextlib.asynccontextmanager
async def _somebody_holds(group: Group, database_url: str, partition: int) -> AsyncIterator[Held]:
    holder, looker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute(f"SELECT {_ROW} FOR UPDATE", group.name, partition)
            yield Held(group, looker)
    finally:
        await holder.close()
        await looker.close()
