"""Where a replay begins, what it adds, and what it must never do: scenarios with the policy's numbers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from telemetry_svc.policies import load_file
from telemetry_svc.replay import NotReplayed
from telemetry_svc.replay.course import Course
from telemetry_svc.replay.inputs import inputs
from telemetry_svc.rules import MachineState, Policy, Step, decode_state, step
from telemetry_svc.telemetry import Fault, Input, InspectionDone, Lamp, Machine, MachineId, Ping, Position, Sensors
from tests.policy_cli.test_policy import changed
from tests.replay.lane import Arrival, Lane, arrival
from tests.rules.machines import ch, machine, reading, registration

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
M = MachineId("ZE215-000017")


def registered(of: Machine | None = None, at: datetime = BEGIN) -> Arrival:
    return arrival(replace(registration(of or machine(), at), command_id=uuid4()), at)


def ping(at: datetime, hours_h: float | None = None, *, received_at: datetime | None = None) -> Arrival:
    given = Ping(M, at, None if hours_h is None else ch(hours_h), engine_running=True)
    return arrival(given, received_at or at)


def working(days: int, begin: datetime = BEGIN, from_h: float = 45.0) -> list[Arrival]:
    """A machine that works 2.5 h in each quarter of a day: 45.00, 47.50, 50.00, 52.50 …"""
    return [ping(begin + number * 6 * HOUR + HOUR, from_h + number * 2.5) for number in range(days * 4)]


async def test_the_same_ids_come_out_and_nothing_is_raised_twice(lane: Lane) -> None:
    await lane.feed([registered(), *working(25)])
    facts = await lane.facts(M)
    assert facts[:3] == ["inspection 50 upcoming", "inspection 50 due", "inspection 50 overdue"]
    sent = await lane.rows("SELECT id FROM outbox ORDER BY id")
    for dry_run in (True, False, False):
        outcome = await lane.replayed(M, dry_run=dry_run)
        assert (outcome.start.kind, outcome.inputs, outcome.refused, outcome.added) == ("registration", 101, 0, 0)
        assert (outcome.verdict.same, outcome.verdict.new, outcome.verdict.missing) == (len(facts), (), ())
        assert outcome.verdict.changed == ()
    assert await lane.facts(M) == facts
    assert await lane.rows("SELECT id FROM outbox ORDER BY id") == sent


async def test_what_is_missing_is_added_once_and_sent_once(lane: Lane) -> None:
    await lane.feed([registered(), *working(6)])
    states = await lane.rows("SELECT * FROM machine_state")
    await lane.execute("DELETE FROM event WHERE stage = 'due'")
    await lane.execute("DELETE FROM outbox")
    dry = await lane.replayed(M)
    assert [event.stage for event in dry.verdict.new] == ["due"]
    assert await lane.rows("SELECT id FROM outbox") == []
    assert [(await lane.replayed(M, dry_run=False)).added for _ in range(2)] == [1, 0]
    assert await lane.rows("SELECT stage, by_replay FROM event ORDER BY n") == [
        ("upcoming", False),
        ("overdue", False),
        ("due", True),
    ]
    [(topic, key)] = await lane.rows("SELECT topic, key FROM outbox")
    assert (topic, key) == ("excavator.alerts.maintenance-due", M.encode())
    assert await lane.rows("SELECT * FROM machine_state") == states


async def test_a_stored_fact_that_is_not_raised_again_is_named(lane: Lane) -> None:
    await lane.feed([registered(), *working(6)])
    await lane.execute("UPDATE event SET id = gen_random_uuid() WHERE stage = 'due'")
    verdict = (await lane.replayed(M)).verdict
    assert ([event.stage for event in verdict.new], verdict.same) == (["due"], 2)
    assert [fact.body["data"]["stage"] for fact in verdict.missing] == ["due"]


async def test_only_what_was_decided_from_the_time_on_is_judged(lane: Lane) -> None:
    await lane.feed([registered(), *working(25)])
    await lane.execute("DELETE FROM event WHERE subject IN ('50', '250')")
    verdict = (await lane.replayed(M, since=BEGIN + 15 * DAY)).verdict
    assert [(event.subject, event.stage) for event in verdict.new] == [("250", "due")], "upcoming since the 13th day"
    assert (verdict.same, verdict.missing) == (0, ())


async def test_a_replay_begins_at_the_last_snapshot_before_the_time(lane: Lane) -> None:
    await lane.feed([registered(), *working(5)])
    await lane.execute("UPDATE machine_state SET snapshot_at = :at", at=BEGIN - 26 * DAY)
    await lane.batch([], BEGIN + 5 * DAY)
    assert await lane.rows("SELECT machine_id, apply_seq, taken_at FROM machine_snapshot") == [
        (M, lane.apply_seq, BEGIN + 5 * DAY)
    ]
    await lane.feed(working(20, BEGIN + 5 * DAY, 95.0))
    facts = await lane.facts(M)
    later = await lane.replayed(M, since=BEGIN + 5 * DAY)
    assert (later.start.kind, later.start.at, later.inputs) == ("snapshot", BEGIN + 5 * DAY, 80)
    assert (later.verdict.same, later.verdict.new, later.verdict.missing) == (len(facts) - 2, (), ())
    earlier = await lane.replayed(M, since=BEGIN + 5 * DAY - timedelta(seconds=1))
    assert (earlier.start.kind, earlier.verdict.new, earlier.verdict.missing) == ("registration", (), ())


async def test_snapshots_are_taken_every_30_days_and_kept_for_400(lane: Lane) -> None:
    old = ((1, BEGIN - 400 * DAY - HOUR), (2, BEGIN - 400 * DAY + HOUR))
    await lane.feed([registered()])
    for number, taken_at in old:
        await keep(lane, -number, taken_at)
    await lane.execute("UPDATE machine_state SET snapshot_at = :at", at=BEGIN - 30 * DAY)
    await lane.batch([], BEGIN - timedelta(seconds=1))
    assert await _taken_at(lane) == [taken_at for _, taken_at in old]
    await lane.batch([], BEGIN)
    assert await _taken_at(lane) == [old[1][1], BEGIN]
    await lane.batch([], BEGIN + 29 * DAY)
    assert await _taken_at(lane) == [old[1][1], BEGIN]
    query = (
        "SELECT m.state = s.state FROM machine_state m JOIN machine_snapshot s USING (machine_id) WHERE taken_at = :at"
    )
    assert await lane.rows(query, at=BEGIN) == [(True,)]


async def keep(lane: Lane, apply_seq: int, at: datetime) -> None:
    """A snapshot that no version can read."""
    columns = "machine_id, apply_seq, taken_at, event_n, state"
    await lane.execute(
        f"INSERT INTO machine_snapshot ({columns}) VALUES (:m, :n, :at, 0, '{{}}')", m=M, n=apply_seq, at=at
    )


async def _taken_at(lane: Lane) -> list[datetime]:
    return [row[0] for row in await lane.rows("SELECT taken_at FROM machine_snapshot ORDER BY taken_at")]


async def test_without_a_start_it_says_so_and_does_nothing(lane: Lane) -> None:
    await lane.feed([registered(), *working(5)])
    await lane.execute("DELETE FROM event")
    await lane.execute("DELETE FROM command")
    assert await lane.replay(M, since=BEGIN, dry_run=False) == NotReplayed(
        M, "no snapshot by 2026-03-02T00:00:00Z; its registration is not stored"
    )
    assert await lane.facts(M) == []


async def test_a_change_of_the_registration_is_no_registration(lane: Lane) -> None:
    await lane.feed([registered(), *working(2), registered(machine(status="stored"), BEGIN + 3 * DAY)])
    await lane.execute("DELETE FROM command WHERE received_at = :at", at=BEGIN)
    outcome = await lane.replay(M)
    assert isinstance(outcome, NotReplayed)
    assert outcome.reason.endswith("its registration is not stored")


async def test_a_registration_older_than_history_is_no_start(lane: Lane) -> None:
    await lane.feed([registered(at=BEGIN - 5_000 * DAY), *working(2)])
    outcome = await lane.replay(M)
    assert isinstance(outcome, NotReplayed)
    assert "history begins at 20" in outcome.reason


async def test_a_snapshot_that_cannot_be_read_gives_way_to_the_registration(lane: Lane) -> None:
    await lane.feed([registered(), *working(2)])
    await keep(lane, 3, BEGIN + DAY)
    outcome = await lane.replayed(M, since=BEGIN + DAY)
    assert (outcome.start.kind, outcome.verdict.new, outcome.verdict.missing) == ("registration", (), ())


async def test_a_machine_that_ingest_does_not_know(lane: Lane) -> None:
    assert await lane.replay(M) == NotReplayed(M, "ingest knows no such machine")


async def test_a_command_of_another_time_stops_its_machine(lane: Lane) -> None:
    done = InspectionDone(uuid4(), M, BEGIN + HOUR, BEGIN + 2 * HOUR, 50)
    await lane.feed([registered(), *working(2)[:1], arrival(done, BEGIN + 2 * HOUR)])
    await lane.execute("UPDATE command SET body = '{\"type\": \"weighed\"}' WHERE kind = 'inspection_done'")
    assert await lane.replay(M) == NotReplayed(
        M, "the stored inspection_done of 2026-03-02T02:00:00Z cannot be read: type is no command we know"
    )


async def test_a_state_of_another_time_stops_its_machine(lane: Lane) -> None:
    await lane.feed([registered(), *working(2)])
    await lane.execute("UPDATE machine_state SET state = '{}'")
    outcome = await lane.replay(M)
    assert isinstance(outcome, NotReplayed)
    assert outcome.reason.startswith("its state cannot be read: ")


async def test_a_rule_that_fails_stops_its_machine_and_nothing_is_added(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lane.feed([registered(), *working(5)])
    await lane.execute("DELETE FROM event")
    passed = []

    def failing(policy: Policy, state: MachineState | None, given: Input) -> Step:
        passed.append(given)
        if len(passed) > 4:
            raise ValueError("no such milestone")
        return step(policy, state, given)

    monkeypatch.setattr("telemetry_svc.replay.course.step", failing)
    assert await lane.replay(M, dry_run=False) == NotReplayed(
        M, "the rules fail at a reading, after 4 inputs: ValueError: no such milestone"
    )
    assert await lane.facts(M) == []


async def test_long_work_is_told(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    await lane.feed([registered(), *working(2)])
    monkeypatch.setattr("telemetry_svc.replay.machine.TOLD_EVERY", 4)
    told = []
    await lane.replayed(M, tell=lambda machine_id, inputs: told.append((machine_id, inputs)))
    assert told == [(M, 4), (M, 8)]


def three_days_silent() -> list[Arrival]:
    """Pings over 72 h, then none for four days."""
    first = [ping(BEGIN + number * DAY) for number in range(4)]
    return [registered(), *first, ping(BEGIN + 7 * DAY)]


async def test_a_silence_comes_out_again_by_the_clock_of_the_broker(lane: Lane) -> None:
    await lane.feed(three_days_silent())
    assert [fact.split()[-1] for fact in await lane.facts(M)] == ["opened", "cleared"]
    assert (await lane.replayed(M)).verdict.same == 2


async def test_a_silence_that_ended_before_a_tick_could_come_stays_untold(lane: Lane) -> None:
    """72 h and 20 s: the policy's time was over, the minute's tick had not come."""
    first = [ping(BEGIN + number * DAY + timedelta(seconds=10)) for number in range(4)]
    await lane.feed([registered(), *first, ping(BEGIN + 6 * DAY + timedelta(seconds=30))])
    assert await lane.facts(M) == []
    assert (await lane.replayed(M)).verdict.new == ()


async def test_a_backlog_is_no_silence(lane: Lane) -> None:
    """Ingest stood still: a command of today is decided before pings that were received days before it."""
    first = [ping(BEGIN + number * DAY) for number in range(4)]
    await lane.feed([registered(), *first])
    backlog = [ping(BEGIN + number * DAY) for number in range(4, 9)]
    today = InspectionDone(uuid4(), M, BEGIN + HOUR, BEGIN + 9 * DAY, 50)
    await lane.batch([arrival(today, BEGIN + 9 * DAY), *backlog])
    outcome = await lane.replayed(M, now=BEGIN + 9 * DAY)
    assert (outcome.inputs, outcome.verdict.new, outcome.verdict.missing) == (11, (), ())


async def test_what_ingest_has_not_read_yet_is_no_silence(lane: Lane) -> None:
    """Ingest has stood still for ten days: the last pings in the database are old, those in the topic are not."""
    await lane.feed([registered(), *(ping(BEGIN + number * DAY) for number in range(4))])
    assert (await lane.replayed(M, now=BEGIN + 13 * DAY)).verdict.new == ()


async def test_what_only_the_calendar_decides_comes_out_again(lane: Lane) -> None:
    """W1 of a machine of 19.9 t ends twelve months after its delivery; not a single ping."""
    of = machine(19.9, delivered_on="2025-04-10")
    await lane.feed([registered(of)])
    await lane.pass_time(BEGIN + 60 * DAY)
    assert await lane.facts(M) == ["warranty machine expiring", "warranty machine expired", "checkup 1 due"]
    outcome = await lane.replayed(M, now=BEGIN + 60 * DAY)
    assert (outcome.verdict.same, outcome.verdict.new, outcome.verdict.missing) == (3, (), ())


@pytest.fixture
def earlier(tmp_path: Path) -> Policy:
    """The revised edition, overdue 20 h after the milestone, the first told 5 h before."""
    path = changed(tmp_path, ("overdue_after_h: 50", "overdue_after_h: 20"), ("lead_first_h: 10", "lead_first_h: 5"))
    return load_file(path)


async def test_another_policy_is_tried_and_nothing_is_added(lane: Lane, earlier: Policy) -> None:
    await lane.feed([registered(), *working(3, from_h=42.5)])  # up to 70 h
    assert await lane.facts(M) == ["inspection 50 upcoming", "inspection 50 due"]
    verdict = (await lane.replayed(M, policy=earlier, dry_run=False)).verdict
    assert [(event.subject, event.stage) for event in verdict.new] == [("50", "overdue")]
    assert [fact.body["data"]["stage"] for fact in verdict.missing] == []
    assert {(one.field, one.fact.body["data"]["stage"]) for one in verdict.changed} == {
        ("time", "upcoming"),
        ("true_hours_h", "upcoming"),
        ("recorded_at", "upcoming"),
    }
    assert await lane.facts(M) == ["inspection 50 upcoming", "inspection 50 due"]


async def test_another_policy_begins_at_the_registration_even_where_there_is_a_snapshot(
    lane: Lane, earlier: Policy
) -> None:
    await lane.feed([registered(), *working(2)])
    await lane.execute("UPDATE machine_state SET snapshot_at = :at", at=BEGIN - 40 * DAY)
    await lane.batch([], BEGIN + 2 * DAY)
    assert (await lane.replayed(M, since=BEGIN + 3 * DAY)).start.kind == "snapshot"
    assert (await lane.replayed(M, since=BEGIN + 3 * DAY, policy=earlier)).start.kind == "registration"


async def test_every_field_of_a_ping_comes_back_as_it_was_decoded(lane: Lane) -> None:
    """The state after the replay is ingest's own, whatever the pings held."""
    fields: dict[str, Any] = {
        "position": Position(28.228, 112.939, 61.0, 0.5, 270),
        "faults": (Fault(110, 0, 3, 0, Lamp.RED_STOP), Fault(97, 3)),
        "sensors": Sensors(88.5, 310, 41, 27.6),
        "engine_running": False,
        "device_id": "868120241234567",
        "sequence": 81234,
    }
    sent = [reading(BEGIN + HOUR, 12.34, **fields), reading(BEGIN + 2 * HOUR, faults=()), reading(BEGIN + 3 * HOUR, 13)]
    await lane.feed([registered(), *(arrival(one.ping, one.received_at) for one in sent)])
    course = Course(lane.policies[machine().policy_edition], None, ())
    async with lane.engine.begin() as connection:
        read = [due.given async for due in inputs(connection, M, 0)]
    assert read[1:] == sent
    for given in read:
        course.take(given)
    [(state,)] = await lane.rows("SELECT state FROM machine_state")
    assert course.state == decode_state(state)
