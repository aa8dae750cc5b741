"""What a batch writes besides pings: states, events, command outcomes, dead letters, slots, the layout; each set-based,
each repeat harmless."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.store.command_outcomes import CommandOutcome, settle_commands, settled_commands
from telemetry_svc.store.dead_letters import (
    DeadLetter,
    TakenUp,
    WaitingRecord,
    add_dead_letters,
    mark_taken_up,
    requested_letters,
    still_waiting,
    waiting_for_registration,
)
from telemetry_svc.store.engine import BadDatabaseUrl, create_engine
from telemetry_svc.store.events import EventRow, add_events
from telemetry_svc.store.layout import keep_layout, layout
from telemetry_svc.store.outbox import OutboxMessage, enqueue, lock_waiting, mark_sent
from telemetry_svc.store.parked import (
    Parked,
    Parking,
    Waiting,
    drop_held,
    due_machine,
    held_records,
    hold,
    park,
    parked_machines,
    postpone,
    unpark,
    waiting_to_be_tried,
)
from telemetry_svc.store.slots import drop_sent, take_slot
from telemetry_svc.store.states import StateRow, due_machines, load_states, save_states
from telemetry_svc.stream.batch import appended_at
from telemetry_svc.telemetry import MachineId

pytestmark = pytest.mark.usefixtures("clean_database")

M1, M2, M3 = MachineId("M-1"), MachineId("M-2"), MachineId("M-3")
NOW = datetime(2026, 11, 22, 4, 20, 31, 1_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def rows(connection: AsyncConnection, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.execute(text(sql))]


def state(machine_id: MachineId, *, check: datetime | None = None, partition: int = 0, body: bytes = b"{}") -> StateRow:
    return StateRow(machine_id, partition, check, body)


async def test_states_are_saved_and_loaded_and_an_unknown_machine_has_none(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await save_states(connection, [state(M1, body=b"1"), state(M2, body=b"\xff\x00")], new=True)
        await save_states(connection, [state(M1, body=b"2")], new=False)
        await save_states(connection, [], new=False)
        assert await load_states(connection, [M1, M2, M3]) == {M1: b"2", M2: b"\xff\x00"}
        assert await load_states(connection, []) == {}


async def test_a_state_saved_as_new_may_be_known(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await save_states(connection, [state(M1, body=b"1")], new=True)
        await save_states(connection, [state(M1, body=b"2", check=NOW), state(M2)], new=True)
        assert await load_states(connection, [M1]) == {M1: b"2"}
        assert await due_machines(connection, 0, NOW, at_most=9) == [M1]


async def test_time_decides_for_the_longest_waiting_of_the_partition_first(engine: AsyncEngine) -> None:
    checks = {M1: NOW, M2: NOW - MINUTE, M3: NOW + MINUTE, MachineId("M-4"): None}
    async with engine.begin() as connection:
        await save_states(connection, [state(one, check=check) for one, check in checks.items()], new=True)
        await save_states(connection, [state(MachineId("M-5"), check=NOW - MINUTE, partition=1)], new=True)
        for method in ("indexscan", "bitmapscan"):  # an index would give the order by chance
            await connection.execute(text(f"SET LOCAL enable_{method} = off"))
        assert await due_machines(connection, 0, NOW, at_most=9) == [M2, M1]
        assert await due_machines(connection, 0, NOW, at_most=1) == [M2]
        assert await due_machines(connection, 2, NOW, at_most=9) == []


def event(event_id: UUID, machine_id: MachineId = M1, body: str = '{"n": 1}') -> EventRow:
    return EventRow(machine_id, event_id, "t.v1", "inspection", "250", "due", NOW, body)


async def test_the_first_occurrence_of_an_event_counts(engine: AsyncEngine) -> None:
    one, two = uuid4(), uuid4()
    async with engine.begin() as connection:
        assert await add_events(connection, [event(one), event(two), event(one, body='{"n": 2}')]) == {one, two}
        assert await add_events(connection, [event(one, body='{"n": 3}')]) == set()
        assert await add_events(connection, []) == set()
        assert await rows(connection, "SELECT id, body FROM event ORDER BY n") == [(one, {"n": 1}), (two, {"n": 1})]


async def test_events_are_numbered_in_the_order_in_which_they_were_decided(engine: AsyncEngine) -> None:
    ids = [uuid4() for _ in range(50)]
    async with engine.begin() as connection:
        await add_events(connection, [event(one) for one in ids])
        assert [row[0] for row in await rows(connection, "SELECT id FROM event ORDER BY n")] == ids


def outcome(command_id: UUID, machine_id: MachineId = M1, **fields: Any) -> CommandOutcome:
    return CommandOutcome(machine_id, command_id, "registration", "{}", NOW, 3, 7, **fields)


async def test_a_command_is_settled_once_it_was_applied_or_rejected(engine: AsyncEngine) -> None:
    pending, applied, rejected = uuid4(), uuid4(), uuid4()
    query = text("INSERT INTO command (machine_id, id, kind, body, status) VALUES ('M-1', :id, 'x', '{}', 'pending')")
    async with engine.begin() as connection:
        await connection.execute(query, {"id": pending})
        await connection.execute(query, {"id": applied})
        await settle_commands(connection, [outcome(applied), outcome(rejected, reason="too late")])
        asked = [(M1, pending), (M1, applied), (M1, rejected), (M2, applied)]
        assert await settled_commands(connection, asked) == {applied, rejected}
        assert await settled_commands(connection, [(M2, applied)]) == set()
        found = await rows(connection, "SELECT id, status, reason, partition, apply_seq FROM command")
        assert sorted(found, key=lambda row: [pending, applied, rejected].index(row[0])) == [
            (pending, "pending", None, None, None),
            (applied, "applied", None, 3, 7),
            (rejected, "rejected", "too late", 3, 7),
        ]


def letter(offset: int, machine_id: MachineId | None = M1, **fields: Any) -> DeadLetter:
    error_class = fields.pop("error_class", "unknown_machine")
    at = fields.pop("timestamp", NOW)
    return DeadLetter("pings", 0, offset, error_class, "why", at, machine_id=machine_id, **fields)


async def test_a_record_has_one_dead_letter(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        assert await add_dead_letters(connection, [letter(1), letter(2)]) == {("pings", 0, 1), ("pings", 0, 2)}
        assert await add_dead_letters(connection, [letter(2), letter(3)]) == {("pings", 0, 3)}
        assert await rows(connection, "SELECT count(*) FROM dead_letter") == [(3,)]


async def test_letters_wait_for_the_registration_of_their_machine_oldest_first(engine: AsyncEngine) -> None:
    letters = [
        letter(1, key=b"k", value=b"\x00\xff"),
        letter(2, timestamp=NOW - MINUTE),
        letter(3, M2),
        letter(4, error_class="malformed"),
        letter(5, None),
        letter(6),
    ]
    async with engine.begin() as connection:
        await add_dead_letters(connection, letters)
        assert [one.offset for one in await waiting_for_registration(connection, [M1], 2)] == [2, 1]
        waiting = await waiting_for_registration(connection, [M1], 9)
        assert [one.offset for one in waiting] == [2, 1, 6]
        assert waiting[1] == WaitingRecord("pings", 0, 1, NOW, b"k", b"\x00\xff")
        await mark_taken_up(connection, [TakenUp(("pings", 0, 2), "replayed"), TakenUp(("pings", 0, 6), "repeated")])
        assert [one.offset for one in await waiting_for_registration(connection, [M1, M2], 9)] == [1, 3]
        assert await still_waiting(connection, [M1, M2]) == {M1, M2}
        await mark_taken_up(connection, [TakenUp(("pings", 0, 1), "replayed")])
        assert await still_waiting(connection, [M1, M2]) == {M2}
        assert await waiting_for_registration(connection, [], 9) == []


async def test_a_letter_tried_while_its_machine_is_still_unknown_goes_on_waiting(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await add_dead_letters(connection, [letter(1)])
        await connection.execute(text("UPDATE dead_letter SET requested_at = now()"))
        assert [one.offset for one in await requested_letters(connection, 0, ["pings"], 9)] == [1]
        await mark_taken_up(connection, [TakenUp(("pings", 0, 1), "unknown_machine", "the machine is not registered")])
        assert await requested_letters(connection, 0, ["pings"], 9) == []
        assert [one.offset for one in await waiting_for_registration(connection, [M1], 9)] == [1]


async def test_machines_are_parked_once_and_tried_when_their_time_has_come(engine: AsyncEngine) -> None:
    soon, never = timedelta(0), timedelta(hours=1)
    async with engine.begin() as connection:
        await park(connection, [Parking(M1, 3, ("pings", 3, 7), "why"), Parking(M2, 4, ("pings", 4, 8), "why")], soon)
        assert await parked_machines(connection, [3, 5]) == {M1: True}
        assert await due_machine(connection, 3) == Parked(M1, ("pings", 3, 7), 0)
        assert (await waiting_to_be_tried(connection, ["pings"])) == Waiting(frozenset({3, 4}), 2)
        await postpone(connection, M1, never)
        assert await due_machine(connection, 3) is None
        assert (await waiting_to_be_tried(connection, ["pings"])) == Waiting(frozenset({4}), 2)
        await park(connection, [Parking(M1, 3, None, "catching up")], never)
        assert await due_machine(connection, 3) == Parked(M1, None, 0)
        assert await parked_machines(connection, [3]) == {M1: False}
        await unpark(connection, M1)
        assert await parked_machines(connection, [3, 4]) == {M2: True}


async def test_held_records_come_back_in_order_as_they_were(engine: AsyncEngine) -> None:
    first = [WaitingRecord("pings", 0, n, NOW, b"k", b"\xff\x00", (("h", b"\xfe"), ("null", None))) for n in (9, 4)]
    last = WaitingRecord("commands", 0, 1, NOW, None, None)
    async with engine.begin() as connection:
        await hold(connection, [(M1, first[0]), (M2, last), (M1, first[1])])
        await hold(connection, [(M1, last)])
        held = await held_records(connection, M1, 9)
        assert [one.record for one in held] == [*first, last]
        assert [one.record for one in await held_records(connection, M1, 1)] == first[:1]
        await drop_held(connection, M1, held[1].n)
        assert [one.record for one in await held_records(connection, M1, 9)] == [last]
        assert len(await held_records(connection, M2, 9)) == 1


async def test_letters_of_a_parked_machine_wait_until_it_goes_on(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await add_dead_letters(connection, [letter(1), letter(2, None), letter(3, M2)])
        await connection.execute(text("UPDATE dead_letter SET requested_at = now() WHERE topic_offset < 3"))
        await park(connection, [Parking(M1, 0, ("pings", 0, 9), "why")], timedelta(hours=1))
        assert [one.offset for one in await requested_letters(connection, 0, ["pings"], 9)] == [2]
        assert await requested_letters(connection, 0, ["commands"], 9) == []
        assert await requested_letters(connection, 1, ["pings"], 9) == []


@example(ms=2_178_723_659_088)
@given(ms=st.integers(946_684_800_000, 4_102_444_799_999))
def test_a_waiting_record_has_the_append_time_that_it_had(ms: int) -> None:
    received_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    record = WaitingRecord("pings", 0, 1, received_at, None, None)
    assert record.timestamp == ms
    assert appended_at(record) == received_at


async def test_a_slot_is_taken_once_whoever_asks(engine: AsyncEngine) -> None:
    async def ask() -> bool:
        async with engine.begin() as connection:
            return await take_slot(connection, "ticks", NOW)

    assert sorted(await asyncio.gather(*(ask() for _ in range(5)))) == [False, False, False, False, True]
    async with engine.begin() as connection:
        assert await take_slot(connection, "ticks", NOW + MINUTE)
        assert await take_slot(connection, "weeks", NOW)


async def test_a_slot_whose_work_was_rolled_back_is_free_again(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await take_slot(connection, "ticks", NOW)
        await connection.rollback()
    async with engine.begin() as connection:
        assert await take_slot(connection, "ticks", NOW)


async def test_only_what_was_sent_long_ago_is_forgotten(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await enqueue(connection, [OutboxMessage("t", b"k", b"%d" % number) for number in range(3)])
        old, new, _waiting = [row.id for row in await lock_waiting(connection, buckets=64, rows=9)]
        await mark_sent(connection, [old, new])
        await connection.execute(
            text("UPDATE outbox SET sent_at = now() - interval '2 days' WHERE id = :id"), {"id": old}
        )
        await take_slot(connection, "ticks", datetime(2000, 1, 1, tzinfo=UTC))
        [(cut,)] = await rows(connection, "SELECT now() - interval '1 day'")
        await drop_sent(connection, cut)
        assert await rows(connection, "SELECT value FROM outbox ORDER BY id") == [(b"1",), (b"2",)]
        assert await rows(connection, "SELECT count(*) FROM schedule_slot") == [(0,)]


async def test_the_layout_is_that_of_the_first_time(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await keep_layout(connection, {"pings": 12, "commands": 12})
        await keep_layout(connection, {"pings": 24, "calls": 6})
        assert await layout(connection) == {"pings": 12, "commands": 12, "calls": 6}


@pytest.mark.parametrize("url", ["", "mysql://u:secret@h/d", "secret", "http://secret"])
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BadDatabaseUrl) as refused:
        create_engine(url, application_name="tests")
    assert "secret" not in str(refused.value)
    assert "postgresql://" in str(refused.value)


async def test_the_server_itself_ends_what_sleeps(database_url: str) -> None:
    """The settings that decision 2 stands on are in force in every session."""
    engine = create_engine(database_url, application_name="tests")
    settings = {
        "idle_in_transaction_session_timeout": "10s",
        "transaction_timeout": "1min",
        "TimeZone": "UTC",
        "tcp_keepalives_idle": "5",
    }
    async with engine.connect() as connection:
        for name, value in settings.items():
            assert (await connection.execute(text(f"SHOW {name}"))).scalar_one() == value
    await engine.dispose()
