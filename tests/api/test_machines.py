"""Listing and showing machines, and the commands that people give."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.codec import command as codec
from telemetry_svc.rules import encode_state, step
from telemetry_svc.store.cursor import START, Cursor
from telemetry_svc.store.machines import get, insert_new, page_query
from telemetry_svc.store.states import StateRow, save_states
from telemetry_svc.telemetry import (
    Fault,
    InspectionDone,
    Lamp,
    MachineId,
    MeterDecision,
    Ping,
    Reading,
    Registration,
)
from telemetry_svc.units import Centihours
from tests.api.house import MACHINE, REV1, House, machine, plan_of
from tests.web.doubles import NOON


async def _walk(house: House, limit: int) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = (await house.get("/v1/machines", **params)).json()
        pages.append([item["machine_id"] for item in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages


async def test_machines_are_listed_page_by_page_as_they_were_registered(house: House) -> None:
    for name in ("C", "A", "B", "E", "D"):
        await house.register(machine(name))
    assert await _walk(house, 2) == [["C", "A"], ["B", "E"], ["D"]]
    assert await _walk(house, 5) == [["C", "A", "B", "E", "D"], []]


async def test_a_change_moves_no_machine_in_the_list(house: House) -> None:
    await house.register(machine("A"))
    await house.register(machine("B"))
    await house.register({"machine_id": "A", "model": "ZE215E"})
    assert await _walk(house, 100) == [["A", "B"]]


async def test_a_registration_that_commits_late_is_not_skipped(house: House, engine: AsyncEngine) -> None:
    await house.register(machine("A"))
    async with house.engine.connect() as connection:
        row = await get(connection, MachineId("A"))
    assert row is not None
    late = row.__class__(row.machine.__class__(MachineId("LATE"), 21.5, REV1), row.registered_at, row.changed_at)
    async with engine.begin() as slow:
        await insert_new(slow, [late])
        await house.register(machine("B"))
        assert await _walk(house, 100) == [["A"]]
    assert await _walk(house, 100) == [["A", "LATE", "B"]]


async def test_the_list_uses_its_index(house: House) -> None:
    plan = await plan_of(house.engine, page_query(START, Cursor(1_000, 0), 100))
    assert "Index Scan using ix_machine_cursor" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    ("params", "field"),
    [
        pytest.param({"limit": 0}, "limit", id="none"),
        pytest.param({"limit": 1_000_000}, "limit", id="a million"),
        pytest.param({"limit": "x"}, "limit", id="no number"),
        pytest.param({"cursor": "x"}, "cursor", id="no cursor"),
        pytest.param({"cursor": "_" * 22}, "cursor", id="a cursor beyond all"),
        pytest.param({"cursor": "x" * 10_000}, "cursor", id="10 kB"),
    ],
)
async def test_what_a_list_does_not_take(house: House, params: dict[str, Any], field: str) -> None:
    answer = await house.get("/v1/machines", **params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_a_machine_before_its_registration_was_applied(house: House) -> None:
    await house.register(machine())
    shown = (await house.get(f"/v1/machines/{MACHINE}")).json()
    assert shown["tonnage_t"] == 21.5
    assert (shown["state"], shown["checkups"]) == (None, None)
    assert shown["milestones"] == shown["warranty"] == shown["open_anomalies"] == []


async def test_what_is_remembered_of_a_machine_is_shown(house: House) -> None:
    await house.register(machine(delivered_on="2026-01-31"))
    async with house.engine.connect() as connection:
        row = await get(connection, MachineId(MACHINE))
    assert row is not None
    policy = house.policies[REV1]
    state = step(policy, None, Registration(uuid4(), row.machine, NOON, NOON)).state
    fault = Fault(110, 0, occurrence_count=3, lamp=Lamp.RED_STOP)
    at = NOON + timedelta(minutes=1)
    ping = Ping(MachineId(MACHINE), at, hour_meter_ch=Centihours(24_990), faults=(fault,))
    state = step(policy, state, Reading(ping, at)).state
    async with house.engine.begin() as connection:
        await save_states(connection, [StateRow(MachineId(MACHINE), 0, None, encode_state(state))], new=True)

    shown = (await house.get(f"/v1/machines/{MACHINE}")).json()
    assert shown["state"]["true_hours_h"] == 249.9
    assert shown["state"]["latest_recorded_at"] == "2026-11-22T04:01:00Z"
    stages = {one["milestone_h"]: one["stage"] for one in shown["milestones"]}
    assert (stages[50], stages[250], stages[500], len(stages)) == ("overdue", "upcoming", "ahead", 12)
    assert shown["warranty"] == [
        {"coverage": "machine", "stage": "covered", "limit_h": 3000.0, "ends_at": "2027-07-31T16:00:00Z"},
        {"coverage": "structure", "stage": "covered", "limit_h": 6000.0, "ends_at": None},
    ]
    assert shown["open_anomalies"] == [
        {
            "kind": "fault",
            "rule": "fault",
            "severity": "critical",
            "opened_at": "2026-11-22T04:01:00Z",
            "fault": {"spn": 110, "fmi": 0, "source_address": 0, "lamp": "red_stop", "occurrence_count": 3},
        }
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/v1/machines/NOBODY", 404, id="unknown"),
        pytest.param("/v1/machines/bad%20id", 422, id="another alphabet"),
        pytest.param(f"/v1/machines/{'Z' * 10_000}", 422, id="10 kB"),
        pytest.param("/v1/machines/%1b%5b31m%0d%0a", 422, id="ANSI and a line break"),
        pytest.param(f"/v1/commands/{uuid4()}", 404, id="unknown command"),
        pytest.param("/v1/commands/17", 422, id="no command id"),
    ],
)
async def test_what_is_not_there(house: House, path: str, status: int) -> None:
    answer = await house.get(path)
    assert answer.status_code == status
    assert answer.text.isprintable()


PERFORMED = "2026-11-22T11:00:00+08:00"


async def _post(house: House, what: str, given: dict[str, Any], machine_id: str = MACHINE) -> Any:
    return await house.ask("POST", f"/v1/machines/{machine_id}/{what}", content=json.dumps(given))


async def _last_command(house: House) -> Any:
    topic, key, value = (await house.commands())[-1]
    assert (topic, key) == (topics.COMMANDS, MACHINE.encode())
    return codec.decode(json.dumps(value).encode(), NOON)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"milestone_h": 250, "hour_meter_h": 251.3}, id="an inspection"),
        pytest.param({"milestone_h": 250}, id="without the meter"),
        pytest.param({"checkup_no": 1, "milestone_h": None}, id="a check-up"),
    ],
)
async def test_an_inspection_done_is_on_its_way(house: House, given: dict[str, Any]) -> None:
    await house.register(machine())
    answer = await _post(house, "inspections", given | {"performed_at": PERFORMED})
    assert answer.status_code == 202
    command_id = answer.json()["command_id"]
    hours_h = given.get("hour_meter_h")
    assert await _last_command(house) == InspectionDone(
        UUID(command_id),
        MachineId(MACHINE),
        performed_at=datetime(2026, 11, 22, 3, 0, tzinfo=UTC),
        received_at=NOON,
        milestone_h=given.get("milestone_h"),
        checkup_no=given.get("checkup_no"),
        hour_meter_ch=None if hours_h is None else Centihours(25_130),
    )
    shown = (await house.get(f"/v1/commands/{command_id}")).json()
    assert (shown["status"], shown["reason"], shown["kind"]) == ("pending", None, "inspection_done")
    assert await house.counts() == {"machine": 1, "command": 2, "outbox": 2}


@pytest.mark.parametrize("decision", ["accept", "reject", "replaced"])
async def test_a_meter_decision_is_on_its_way(house: House, decision: str) -> None:
    await house.register(machine())
    answer = await _post(house, "meter", {"decision": decision, "note": "ECU exchanged\non site"})
    assert answer.status_code == 202
    command = await _last_command(house)
    assert isinstance(command, MeterDecision)
    assert (str(command.command_id), command.decision) == (answer.json()["command_id"], decision)


@pytest.mark.parametrize(
    ("what", "given", "field"),
    [
        pytest.param("inspections", {"milestone_h": 250}, "performed_at", id="when?"),
        pytest.param("inspections", {"performed_at": PERFORMED}, "milestone_h", id="neither"),
        pytest.param(
            "inspections", {"performed_at": PERFORMED, "milestone_h": 250, "checkup_no": 1}, "milestone_h", id="both"
        ),
        pytest.param("inspections", {"performed_at": PERFORMED, "milestone_h": 251}, "milestone_h", id="no such one"),
        pytest.param("inspections", {"performed_at": PERFORMED, "milestone_h": 250.0}, "milestone_h", id="a fraction"),
        pytest.param("inspections", {"performed_at": PERFORMED, "checkup_no": 0}, "checkup_no", id="check-up 0"),
        pytest.param(
            "inspections", {"performed_at": "2026-11-22T04:05:01Z", "milestone_h": 250}, "performed_at", id="ahead"
        ),
        pytest.param(
            "inspections", {"performed_at": "2026-11-22T04:00:00", "milestone_h": 250}, "performed_at", id="naive"
        ),
        pytest.param(
            "inspections",
            {"performed_at": PERFORMED, "milestone_h": 250, "hour_meter_h": -1},
            "hour_meter_h",
            id="hours under 0",
        ),
        pytest.param("meter", {}, "decision", id="what?"),
        pytest.param("meter", {"decision": "maybe"}, "decision", id="unknown decision"),
        pytest.param("meter", {"decision": "accept", "note": "a\x00b"}, "note", id="NUL in a note"),
        pytest.param("meter", {"decision": "accept", "note": "x" * 2_001}, "note", id="a novel"),
    ],
)
async def test_commands_that_do_not_fit(house: House, what: str, given: dict[str, Any], field: str) -> None:
    await house.register(machine())
    answer = await _post(house, what, given)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await house.counts() == {"machine": 1, "command": 1, "outbox": 1}


async def test_five_minutes_ahead_is_in_time(house: House) -> None:
    await house.register(machine())
    answer = await _post(house, "inspections", {"performed_at": "2026-11-22T04:05:00Z", "milestone_h": 50})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("what", "given"),
    [("inspections", {"performed_at": PERFORMED, "milestone_h": 250}), ("meter", {"decision": "accept"})],
)
async def test_commands_for_an_unknown_machine_are_404(house: House, what: str, given: dict[str, Any]) -> None:
    assert (await _post(house, what, given, "NOBODY")).status_code == 404
    assert await house.counts() == {}


async def test_many_at_once_do_not_wait_for_ever(house: House) -> None:
    """Arrays that name the same machines in other orders: no deadlock."""
    names = [f"M-{index}" for index in range(20)]
    given = [machine(name) for name in names]
    answers = await asyncio.gather(house.register(*given), house.register(*reversed(given)), house.register(*given))
    assert [answer.status_code for answer in answers] == [207] * 3, [answer.text for answer in answers]
    statuses = [result["status"] for answer in answers for result in answer.json()["results"]]
    assert sorted(statuses) == [200] * 40 + [201] * 20
    assert (await house.counts())["command"] == 20
