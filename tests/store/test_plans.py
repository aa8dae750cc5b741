"""The hot statements use their indexes, PostgreSQL's own plan says so: of the plan that serves any values, on tables of
some thousands of rows whose statistics are fresh."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import ClauseElement, Executable, Select, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from telemetry_svc.store import (
    command_outcomes,
    dead_letters,
    history,
    outbox,
    ownership,
    parked,
    states,
)
from telemetry_svc.store.alerts import AlertFilter, page_query
from telemetry_svc.store.cursor import Cursor
from telemetry_svc.store.history import make_weeks, weeks_around
from tests.conftest import empty_database

NOW = datetime(2026, 11, 22, tzinfo=UTC)
FILL = """
    INSERT INTO ping (machine_id, recorded_at, dedupe, received_at, future, partition, topic_offset, apply_seq)
    SELECT 'M-' || i % 300, timestamptz '2026-11-29' - i * interval '1776 seconds', i, now(), false, 0, i, i
    FROM generate_series(1, 20000) AS i;
    INSERT INTO ping_outlier (machine_id, recorded_at, dedupe, received_at, future, partition, topic_offset, apply_seq)
    SELECT 'M-' || i % 300, timestamptz '2011-01-01' + i * interval '1 hour', i, now(), false, 0, i, i
    FROM generate_series(1, 5000) AS i;
    INSERT INTO machine_state (machine_id, partition, next_check_at, state)
    SELECT 'M-' || i, i % 12, CASE WHEN i % 2 = 0 THEN now() + i * interval '1 minute' END, '{}'
    FROM generate_series(1, 10000) AS i;
    INSERT INTO outbox (bucket, topic, key, value, sent_at)
    SELECT i % 64, 't', 'k', 'v', CASE WHEN i % 50 <> 0 THEN now() END FROM generate_series(1, 20000) AS i;
    INSERT INTO event (machine_id, id, type, rule, subject, stage, time, body)
    SELECT 'M-' || i % 300, gen_random_uuid(), 't', 'inspection', '250', 'due', now(), '{"data": {}}'
    FROM generate_series(1, 10000) AS i;
    INSERT INTO command (machine_id, id, kind, body, status)
    SELECT 'M-' || i % 300, gen_random_uuid(), 'registration', '{}', 'applied' FROM generate_series(1, 10000) AS i;
    INSERT INTO dead_letter (topic, partition, topic_offset, error_class, error_message, record_timestamp, machine_id)
    SELECT 't', i % 12, i, CASE WHEN i % 2 = 0 THEN 'malformed' ELSE 'unknown_machine' END, 'why', now(), 'M-' || i
    FROM generate_series(1, 10000) AS i;
    INSERT INTO parked_machine (machine_id, partition, topic, topic_offset, reason, next_try_at)
    SELECT 'M-' || i * 3, i % 12, 't', i, 'why', now() + i * interval '1 minute' FROM generate_series(1, 3000) AS i;
    INSERT INTO held_record (machine_id, topic, partition, topic_offset, received_at)
    SELECT 'M-' || i % 300, 't', 0, i, now() FROM generate_series(1, 10000) AS i;
    INSERT INTO partition_owner (group_name, partition, owner_epoch, owner_pid, owner_backend_start, next_offset_a,
                                 next_offset_b)
    SELECT 'plan-' || i / 50, i % 50, 1, 1, now(), 0, 0 FROM generate_series(1, 5000) AS i
"""
TABLES = (
    "ping, ping_outlier, machine_state, outbox, event, command, dead_letter, parked_machine, held_record,"
    " partition_owner"
)
TYPES = {
    "machine_ids": "text[]",
    "recorded_ats": "timestamptz[]",
    "dedupes": "bigint[]",
    "partition": "smallint",
    "at": "timestamptz",
    "at_most": "int",
    "buckets": "smallint[]",
    "rows": "int",
    "without": "text[]",
    "max_bytes": "bigint",
    "ids": "bigint[]",
    "topics": "text[]",
    "partitions": "int[]",
    "offsets": "bigint[]",
    "outcomes": "text[]",
    "whys": "text[]",
    "checks": "timestamptz[]",
    "states": "bytea[]",
    "group_name": "text",
    "epochs": "bigint[]",
    "before_a": "bigint[]",
    "before_b": "bigint[]",
    "after_a": "bigint[]",
    "after_b": "bigint[]",
    "apply_seqs": "bigint[]",
}
"""Parameters of the statements; where one has another type for the same name, the case says so."""


@pytest.fixture(scope="module")
async def filled(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Tables full of rows, for this connection alone: its transaction is rolled back."""
    await empty_database(engine)
    async with engine.begin() as connection:
        await make_weeks(connection, weeks_around(NOW))
    async with engine.connect() as connection:
        transaction = await connection.begin()
        for name in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            await connection.execute(text(f"SET LOCAL {name} = 0"))
        for statement in FILL.split(";"):
            await connection.execute(text(statement))
        await connection.execute(text(f"ANALYZE {TABLES}"))
        await connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        yield connection
        await transaction.rollback()


async def plan_of(connection: AsyncConnection, statement: TextClause, **types: str) -> list[dict[str, Any]]:
    """The nodes of the plan that serves any values."""
    sql = statement.text
    names = [name for name in TYPES | types if re.search(rf"(?<!:):{name}\b", sql)]
    for number, name in enumerate(names, start=1):
        sql = re.sub(rf"(?<!:):{name}\b", f"${number}", sql)
    assert not re.search(r"(?<!:):[a-z]", sql), "a parameter without a type"
    declared = ", ".join((TYPES | types)[name] for name in names)
    await connection.exec_driver_sql(f"PREPARE hot {f'({declared})' if declared else ''} AS {sql}")
    values = f"({', '.join('NULL' for _ in names)})" if names else ""
    explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE hot {values}")
    plan = list(nodes(explained.scalar_one()[0]["Plan"]))
    await connection.exec_driver_sql("DEALLOCATE hot")
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def seq_scanned(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"}


def indexes(plan: list[dict[str, Any]]) -> set[str]:
    return {re.sub(r"^ping_\d+_pkey$", "ping_week_pkey", node["Index Name"]) for node in plan if "Index Name" in node}


CASES: dict[str, tuple[TextClause, dict[str, str], set[str]]] = {
    "is_this_ping_a_repeat": (history._KNOWN, {}, {"ping_week_pkey", "pk_ping_outlier"}),
    "states_of_a_batch": (states._LOAD, {}, {"pk_machine_state"}),
    "machines_that_time_decides": (states._DUE, {}, {"ix_machine_state_due", "pk_parked_machine"}),
    "is_a_machine_parked": (parked._PARKED, {"partitions": "smallint[]"}, {"ix_parked_machine_due"}),
    "the_parked_machine_that_is_due": (parked._DUE, {}, {"ix_parked_machine_due"}),
    "what_is_held_of_a_machine": (parked._HELD, {"machine_id": "text"}, {"pk_held_record"}),
    "what_was_held_and_is_applied": (
        parked._DROP,
        {"machine_id": "text", "up_to": "bigint"},
        {"pk_held_record"},
    ),
    "letters_that_a_person_wants_tried_again": (
        dead_letters._REQUESTED,
        {"partition": "int"},
        {"ix_dead_letter_requested", "pk_parked_machine"},
    ),
    "the_letter_behind_which_a_machine_is_parked": (
        dead_letters._LETTER,
        {"topic": "text", "partition": "int", "offset": "bigint"},
        {"pk_dead_letter"},
    ),
    "what_the_lookout_looks_for": (
        parked._WAITING,
        {},
        {"ix_parked_machine_due", "ix_dead_letter_requested", "pk_parked_machine"},
    ),
    "states_saved": (states._UPDATE, {"partitions": "smallint[]"}, {"pk_machine_state"}),
    "rows_that_wait": (outbox._WAITING, {}, {"ix_outbox_waiting"}),
    "buckets_with_rows_that_wait": (
        outbox._LOCK_BUCKETS,
        {"buckets": "int"},
        {"ix_outbox_waiting"},
    ),
    "rows_behind": (outbox._WAITING_UP_TO, {"most": "bigint"}, {"ix_outbox_waiting"}),
    "rows_sent": (outbox._MARK_SENT, {}, {"pk_outbox"}),
    "commands_settled": (command_outcomes._SETTLED, {"ids": "uuid[]"}, {"ix_command_id"}),
    "machines_with_letters_that_wait": (dead_letters._STILL_UNKNOWN, {}, {"ix_dead_letter_unknown_machine"}),
    "letters_that_wait_for_a_registration": (dead_letters._UNKNOWN, {}, {"ix_dead_letter_unknown_machine"}),
    "letters_put_behind_their_machine": (parked._PUT_BEHIND, {}, {"pk_dead_letter"}),
    "letters_taken_up": (dead_letters._TAKEN_UP, {}, {"pk_dead_letter"}),
    "the_fence": (ownership._ADVANCE, {}, {"pk_partition_owner"}),
    "the_takeover": (ownership._TAKE_OVER, {}, {"pk_partition_owner"}),
}


@pytest.mark.parametrize(("statement", "types", "used"), CASES.values(), ids=CASES)
async def test_a_hot_statement_uses_its_index(
    filled: AsyncConnection, statement: TextClause, types: dict[str, str], used: set[str]
) -> None:
    plan = await plan_of(filled, statement, **types)
    assert seq_scanned(plan) <= {"outbox_bucket"} | await empty(filled)
    # 64 rows: the planner reads them by their key or in sequence, as it likes
    assert indexes(plan) - {"pk_outbox_bucket"} == used


async def empty(connection: AsyncConnection) -> set[str]:
    """Weeks of which no ping came: PostgreSQL reads them whole, for there is nothing."""
    query = "SELECT relname FROM pg_class WHERE relname LIKE 'ping%' AND reltuples <= 0"
    return {row[0] for row in await connection.execute(text(query))}


class Explain(Executable, ClauseElement):
    """`EXPLAIN` of a query that SQLAlchemy builds, with its values."""

    inherit_cache = False

    def __init__(self, query: Select[Any]) -> None:
        self.query = query


@compiles(Explain)
def _explain(element: Explain, compiler: SQLCompiler, **options: Any) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.query, **options)}"


async def test_a_page_of_alerts_is_read_from_its_cursor_on(filled: AsyncConnection) -> None:
    query = page_query(AlertFilter(), Cursor(800, 5), Cursor(10**6, 0), 50)
    explained = await filled.execute(Explain(query))
    plan = list(nodes(explained.scalar_one()[0]["Plan"]))
    assert indexes(plan) == {"ix_event_cursor"}
    assert not seq_scanned(plan)
    assert not [node for node in plan if "Sort" in node["Node Type"]]


async def test_a_lost_index_would_be_seen(filled: AsyncConnection) -> None:
    async with filled.begin_nested() as without:
        await filled.execute(text("DROP INDEX ix_dead_letter_unknown_machine"))
        assert seq_scanned(await plan_of(filled, dead_letters._UNKNOWN)) == {"dead_letter"}
        await without.rollback()
