"""As many as one likes may be asked for at once: after a loss, what was told of calls; by a person, dead letters."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.store.call_tasks import Subject, known_changes, reached, save
from telemetry_svc.store.dead_letter_list import LeftOut, LetterFilter, want_again
from telemetry_svc.telemetry import MachineId

pytestmark = pytest.mark.usefixtures("clean_database")

MANY = 40_000
"""More than PostgreSQL's stack is deep and than a statement has parameters."""
NOW = datetime(2026, 11, 22, 4, 20, 31, 1_000, tzinfo=UTC)


async def test_which_of_many_changes_the_history_knows(engine: AsyncEngine) -> None:
    told = [(f"M-{number}", UUID(int=number)) for number in range(MANY)]
    known = {told[0], told[MANY // 2], told[-1], ("M-0", UUID(int=MANY))}
    insert = "INSERT INTO call_history (machine_id, task_id, at, step, state, why) VALUES (:m, :t, :at, 's', 's', 'w')"
    async with engine.begin() as connection:
        await connection.execute(text(insert), [{"m": m, "t": t, "at": NOW} for m, t in known])
        assert await known_changes(connection, told) == {(told[place][1], NOW) for place in (0, MANY // 2, -1)}
        assert await known_changes(connection, {("M-1", UUID(int=0)), ("M-0", uuid4())}) == frozenset()
        assert await known_changes(connection, []) == frozenset()


async def test_how_far_many_subjects_came(engine: AsyncEngine) -> None:
    subjects = [Subject(MachineId(f"M-{number}"), "inspection|250") for number in range(MANY // 2)]
    known = {subjects[0]: 1, subjects[MANY // 4]: 2, subjects[-1]: 3}
    async with engine.begin() as connection:
        await save(connection, [], known | {Subject(MachineId("M-0"), "inspection|500"): 4})
        assert await reached(connection, subjects) == known
        assert await reached(connection, []) == {}


LETTERS = """
    INSERT INTO dead_letter (topic, partition, topic_offset, error_class, error_message, record_timestamp, machine_id)
    SELECT :topic, 3, i, 'internal', 'why', now(), 'M-' || i FROM generate_series(1, :many) AS i
"""
PARKED = """
    INSERT INTO parked_machine (machine_id, partition, topic, topic_offset, reason, next_try_at)
    SELECT 'M-' || i, 3, :topic, i, 'why', now() + interval '1 hour' FROM generate_series(2, :many) AS i
"""


async def test_many_dead_letters_are_named_of_which_nearly_all_are_parked(engine: AsyncEngine) -> None:
    named = tuple((topics.PINGS, 3, offset) for offset in range(1, MANY + 2))
    async with engine.begin() as connection:
        for statement in (LETTERS, PARKED):
            await connection.execute(text(statement), {"topic": topics.PINGS, "many": MANY})
        wanted = await want_again(connection, LetterFilter(ids=named))
        assert (len(wanted.requested), wanted.parked, wanted.done, wanted.elsewhere) == (1, MANY - 1, 0, 0)
        assert wanted.left_out == (LeftOut(named[-1], "missing"),)
        due = "SELECT count(*) FROM parked_machine WHERE next_try_at <= clock_timestamp()"
        assert (await connection.execute(text(due))).scalar_one() == MANY - 1
        requested = "SELECT topic_offset FROM dead_letter WHERE requested_at IS NOT NULL"
        assert [row[0] for row in await connection.execute(text(requested))] == [1]
