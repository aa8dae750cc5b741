"""`telemetry-svc replay` as a person runs it: a line for each machine, what differs below it, and the exit code."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.telemetry import MachineId
from tests.policy_cli.command import Answer, telemetry
from tests.policy_cli.test_policy import changed
from tests.replay.lane import Lane
from tests.replay.test_scenarios import BEGIN, M, registered, working
from tests.rules.machines import machine

SINCE = BEGIN.isoformat()


@pytest.fixture
async def lived(lane: Lane) -> Lane:
    """One machine from 42.5 h to 70 h."""
    await lane.feed([registered(), *working(3, from_h=42.5)])
    return lane


async def replay(*arguments: str, home: Path, engine: AsyncEngine) -> Answer:
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return await telemetry("replay", *arguments, home=home, database_url=url)


async def test_missing_facts_are_added_and_named(lived: Lane, tmp_path: Path, engine: AsyncEngine) -> None:
    await lived.execute("DELETE FROM event WHERE stage = 'due'")
    dry = await replay("--from", SINCE, "--dry-run", home=tmp_path, engine=engine)
    assert dry == (
        0,
        [
            f"{M}: 1 same, 1 new, 0 missing (13 inputs from the registration of 2026-03-02T00:00:00Z)",
            "  new: inspection 50 due at 2026-03-02T19:00:00Z",
            "1 machine: 1 same, 1 new, 0 missing",
        ],
        [],
    )
    first, again = [await replay("--from", SINCE, home=tmp_path, engine=engine) for _ in range(2)]
    assert (first.code, first.out[1:]) == (
        0,
        ["  added: inspection 50 due at 2026-03-02T19:00:00Z", "1 machine: 1 same, 1 added, 0 missing"],
    )
    assert (again.code, again.out[-1]) == (0, "1 machine: 2 same, 0 added, 0 missing")


async def test_what_is_not_raised_again_is_exit_code_1(lived: Lane, tmp_path: Path, engine: AsyncEngine) -> None:
    await lived.execute("UPDATE event SET id = gen_random_uuid() WHERE stage = 'due'")
    await lived.execute("UPDATE event SET n = DEFAULT WHERE stage = 'due'")
    answer = await replay("--from", SINCE, "--dry-run", "--machine", M, home=tmp_path, engine=engine)
    assert answer.code == 1
    assert answer.out[2] == "  missing: inspection 50 due at 2026-03-02T19:00:00Z"


async def test_a_machine_that_cannot_be_replayed_stops_no_other(
    lived: Lane, tmp_path: Path, engine: AsyncEngine
) -> None:
    await lived.feed([registered(machine(machine_id=MachineId("A-1")), BEGIN.replace(day=6))])
    await lived.execute("DELETE FROM command WHERE machine_id = 'A-1'")
    answer = await replay("--from", SINCE, home=tmp_path, engine=engine)
    assert (answer.code, answer.err) == (1, [])
    assert answer.out == [
        "A-1: not replayed: no snapshot by 2026-03-02T00:00:00Z; its registration is not stored",
        f"{M}: 2 same, 0 new, 0 missing (13 inputs from the registration of 2026-03-02T00:00:00Z)",
        "1 machine: 2 same, 0 added, 0 missing; 1 not replayed",
    ]


async def test_another_policy_shows_what_would_change(lived: Lane, tmp_path: Path, engine: AsyncEngine) -> None:
    own = changed(tmp_path, ("overdue_after_h: 50", "overdue_after_h: 20"), ("lead_first_h: 10", "lead_first_h: 5"))
    answer = await replay("--from", SINCE, "--policy", str(own), home=tmp_path, engine=engine)
    assert answer == (
        0,
        [
            f"{M}: 2 same, 1 new, 0 missing, 1 changed (13 inputs from the registration of 2026-03-02T00:00:00Z)",
            "  new: inspection 50 overdue at 2026-03-04T19:00:00Z",
            "  changed: inspection 50 upcoming: time 2026-03-02T01:00:00Z -> 2026-03-02T07:00:00Z",
            "  changed: inspection 50 upcoming: true_hours_h 42.5 -> 45.0",
            "  changed: inspection 50 upcoming: recorded_at 2026-03-02T01:00:00Z -> 2026-03-02T07:00:00Z",
            "1 machine: 2 same, 1 new, 0 missing",
        ],
        [],
    )
    assert await lived.facts(M) == ["inspection 50 upcoming", "inspection 50 due"]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        pytest.param("yesterday", "not a time like", id="no time"),
        pytest.param("2026-03-02T00:00:00", "needs an offset", id="no offset"),
        pytest.param("2199-03-02T00:00:00Z", "lies ahead", id="in the future"),
    ],
)
async def test_a_bad_time_is_refused(time: str, reason: str, tmp_path: Path, engine: AsyncEngine) -> None:
    answer = await replay("--from", time, home=tmp_path, engine=engine)
    assert (answer.code, answer.out) == (2, [])
    assert reason in answer.err[-1]


async def test_a_bad_policy_is_refused(tmp_path: Path, engine: AsyncEngine) -> None:
    own = changed(tmp_path, ("lead_first_h: 10", "lead_first_h: ten"))
    answer = await replay("--from", SINCE, "--policy", str(own), home=tmp_path, engine=engine)
    assert (answer.code, answer.out, len(answer.err)) == (2, [], 1)
    assert str(own) in answer.err[0]
