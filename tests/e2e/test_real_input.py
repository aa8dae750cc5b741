"""25 real excavators through the command line: what comes out equals `examples/fleet-readings/README.md`.

The tests of this module follow one fleet through a day, in order: imported, alarmed, called about.
"""

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid5

import pytest
from httpx import Response as Answer

import telemetry_svc.policies
from telemetry_svc import topics
from telemetry_svc.store.keys import Role
from tests.e2e.house import House, until
from tests.e2e.readings import EDITION, FILE, NAMESPACE, fact_in, facts_of, id_of, read_rows, reasons_of

pytestmark = pytest.mark.uncounted  # many readings, few ways

ROWS = {row.machine_id: row for row in read_rows()}
CLAUSES = {"inspection": "I1", "machine": "W1", "structure": "W2", "checkup": "R4"}
NAME, PHONE, NOTE = "马克记号", "+8613812345678", "星期四九点"


class Imported:
    """The house after both imports."""

    def __init__(self, house: House, maintenance: list[dict[str, Any]], anomalies: list[dict[str, Any]]) -> None:
        self.house = house
        self.maintenance = maintenance
        self.anomalies = anomalies

    def of(self, machine_id: str) -> list[dict[str, Any]]:
        """The machine's alerts in the order of the topic."""
        return [event for event in self.maintenance if event["subject"] == machine_id]


@pytest.fixture(scope="module")
async def imported(house: House) -> Imported:
    code, out, err = await house.cli("machines", "import", str(FILE))
    assert (code, out) == (0, "25 new, 0 known, 0 bad\n"), err
    assert err == "left out: recorded_at, hour_meter_h, fuel_level_pct, engine_running\n"
    code, out, err = await house.cli("pings", "import", str(FILE))
    assert (code, out) == (0, "25 sent, 0 bad\n"), err
    assert err == "left out: model, tonnage_t\n"
    await house.settle()
    return Imported(house, await house.events(topics.MAINTENANCE_DUE), await house.events(topics.ANOMALY))


@pytest.mark.parametrize(
    ("fact", "alert_id"),
    [
        (("inspection", "250", "due"), "e59ca73e-d80d-5236-a163-2bc15288643e"),
        (("warranty", "machine", "expired"), "0e80bf8d-d6a9-57f0-a61f-87aab57545f7"),
        (("checkup", "1", "due"), "c982fff7-504a-5f76-accb-cb97ca438471"),
    ],
)
def test_the_ids_below_are_made_as_the_contract_makes_its_own(fact: tuple[str, str, str], alert_id: str) -> None:
    assert id_of("ZE215-000017", fact) == alert_id


def test_the_totals_are_those_of_the_readme(imported: Imported) -> None:
    facts = [fact_in(event) for event in imported.maintenance]
    totals = Counter((subject if rule == "warranty" else rule, stage) for rule, subject, stage in facts)
    assert totals == {
        ("inspection", "due"): 192,
        ("inspection", "overdue"): 189,
        ("inspection", "upcoming"): 3,
        ("machine", "expired"): 15,
        ("machine", "expiring"): 2,
        ("structure", "expired"): 10,
        ("checkup", "due"): 15,
    }
    assert imported.anomalies == []


def test_exc_001_has_ten_due_ten_overdue_and_both_warranties_expired_in_order_of_hours(imported: Imported) -> None:
    inspections = [
        ("inspection", milestone, stage)
        for milestone in ("50", "250", "500", "1000", "1500", "2000", "2500", "3000", "4000", "6000")
        for stage in ("due", "overdue")
    ]
    inspections[15:15] = [("warranty", "machine", "expired"), ("checkup", "1", "due")]
    inspections[21:21] = [("warranty", "structure", "expired")]
    assert [fact_in(event) for event in imported.of("EXC-001")] == inspections
    assert inspections[14:19] == [
        ("inspection", "3000", "due"),
        ("warranty", "machine", "expired"),
        ("checkup", "1", "due"),
        ("inspection", "3000", "overdue"),
        ("inspection", "4000", "due"),
    ]


def test_exc_024_has_four_due_and_three_overdue_and_nothing_else(imported: Imported) -> None:
    assert [fact_in(event)[1:] for event in imported.of("EXC-024")] == [
        ("50", "due"),
        ("50", "overdue"),
        ("250", "due"),
        ("250", "overdue"),
        ("500", "due"),
        ("500", "overdue"),
        ("1000", "due"),
    ]


@pytest.mark.parametrize(
    ("machine_id", "ahead"),
    [
        ("EXC-015", [("warranty", "machine", "expiring"), ("inspection", "3000", "upcoming")]),
        ("EXC-020", [("inspection", "4000", "upcoming")]),
        ("EXC-022", [("warranty", "machine", "expiring"), ("inspection", "2000", "upcoming")]),
    ],
)
def test_only_three_machines_are_told_what_is_still_ahead(
    imported: Imported, machine_id: str, ahead: list[tuple[str, str, str]]
) -> None:
    ahead_of_all = {event["subject"] for event in imported.maintenance if fact_in(event)[2] in {"upcoming", "expiring"}}
    assert ahead_of_all == {"EXC-015", "EXC-020", "EXC-022"}
    assert [fact for event in imported.of(machine_id) if (fact := fact_in(event))[2] not in _PAST] == ahead


_PAST = {"due", "overdue", "expired"}


@pytest.mark.parametrize("machine_id", ROWS)
def test_each_machine_has_its_facts_in_order_with_their_ids(imported: Imported, machine_id: str) -> None:
    row, alerts = ROWS[machine_id], imported.of(machine_id)
    assert [fact_in(event) for event in alerts] == facts_of(row)
    assert [event["id"] for event in alerts] == [id_of(machine_id, fact) for fact in facts_of(row)]


def test_every_alert_says_what_decided_it(imported: Imported) -> None:
    policy_file = Path(telemetry_svc.policies.__file__).with_name("editions") / f"{EDITION}.yaml"
    digest = hashlib.sha256(policy_file.read_bytes()).hexdigest()
    for event in imported.maintenance:
        row, (rule, subject, _), data = ROWS[event["subject"]], fact_in(event), event["data"]
        assert (event["source"], event["type"]) == ("telemetry-svc/rules", "excavator.maintenance_due.v1")
        assert (event["specversion"], event["datacontenttype"]) == ("1.0", "application/json")
        assert datetime.fromisoformat(event["time"]) == row.recorded_at
        assert (datetime.fromisoformat(data["recorded_at"]), data["true_hours_h"]) == (row.recorded_at, row.hours_h)
        assert (data["policy_edition"], data["policy_digest"]) == (EDITION, digest)
        assert data["policy_clause"] == CLAUSES.get(rule, CLAUSES.get(subject))
        assert data["free_of_charge"] is (True if rule == "inspection" else None)


async def test_the_database_and_http_hold_each_alert_once_as_it_went_out(imported: Imported) -> None:
    out = {event["id"]: event for event in imported.maintenance}
    assert len(out) == len(imported.maintenance)
    rows = await imported.house.rows("SELECT machine_id, rule, subject, stage, id FROM event ORDER BY n")
    assert [row[:4] for row in rows if row[0] == "EXC-001"] == [
        ("EXC-001", *fact) for fact in facts_of(ROWS["EXC-001"])
    ]
    assert sorted(str(row[4]) for row in rows) == sorted(out)
    over_http = await imported.house.all_items("/v1/alerts")
    assert {item["id"]: item for item in over_http} == out
    assert len(over_http) == len(out)


@pytest.mark.parametrize("machine_id", ROWS)
async def test_a_machine_shows_where_it_stands(imported: Imported, machine_id: str) -> None:
    row = ROWS[machine_id]
    reached = {(rule, subject): stage for rule, subject, stage in facts_of(row)}
    shown = (await imported.house.ask("GET", f"/v1/machines/{machine_id}")).json()
    assert shown["state"]["true_hours_h"] == row.hours_h
    assert datetime.fromisoformat(shown["state"]["latest_recorded_at"]) == row.recorded_at
    assert {str(one["milestone_h"]): one["stage"] for one in shown["milestones"] if one["stage"] != "ahead"} == {
        subject: stage for (rule, subject), stage in reached.items() if rule == "inspection"
    }
    assert {one["coverage"]: one["stage"] for one in shown["warranty"]} == {
        coverage: reached.get(("warranty", coverage), "covered") for coverage in ("machine", "structure")
    }
    assert (shown["checkups"] or {"open_nos": []})["open_nos"] == ([1] if ("checkup", "1") in reached else [])
    assert shown["open_anomalies"] == []


@pytest.mark.parametrize("machine_id", ROWS)
async def test_a_machine_has_one_call_with_its_reasons_in_order_and_nobody_to_call(
    imported: Imported, machine_id: str
) -> None:
    row = ROWS[machine_id]
    answer = await imported.house.ask("GET", "/v1/calls", params={"machine_id": machine_id})
    [task] = answer.json()["items"]
    overdue = "overdue" in {stage for _, _, stage in reasons_of(row)}
    assert (task["state"], task["state_reason"]) == ("escalated", "no_contact")
    assert task["priority"] == (5 if overdue else 6)
    assert [reason["alert_id"] for reason in task["reasons"]] == [id_of(machine_id, fact) for fact in reasons_of(row)]
    assert [(reason["kind"], reason["stage"]) for reason in task["reasons"]] == [
        (rule, stage) for rule, _, stage in reasons_of(row)
    ]
    assert task["task_id"] == str(uuid5(NAMESPACE, id_of(machine_id, facts_of(row)[0])))


def test_thirteen_reasons_and_four() -> None:
    assert (len(reasons_of(ROWS["EXC-001"])), len(reasons_of(ROWS["EXC-024"]))) == (13, 4)


async def test_the_call_centres_topic_ends_where_the_queue_stands(imported: Imported) -> None:
    changes = await imported.house.events(topics.CALLS)
    assert len({change["id"] for change in changes}) == len(changes)
    assert {(change["type"], change["source"]) for change in changes} == {
        ("excavator.call_task.v1", "telemetry-svc/notify")
    }
    last = {change["subject"]: change["data"] for change in changes}
    assert last == {task["task_id"]: task for task in await imported.house.all_items("/v1/calls")}
    assert len(last) == 25


async def test_the_same_file_again_changes_nothing(imported: Imported) -> None:
    house = imported.house
    before = await _counts(house)
    for what in ("machines", "pings"):
        code, _, err = await house.cli(what, "import", str(FILE))
        assert code == 0, err
    await house.settle()
    assert await _counts(house) == before
    assert await house.events(topics.MAINTENANCE_DUE) == imported.maintenance


async def _counts(house: House) -> list[Any]:
    return await house.rows(
        """
        SELECT (SELECT count(*) FROM ping), (SELECT count(*) FROM ping_outlier), (SELECT count(*) FROM event),
               (SELECT count(*) FROM call_task), (SELECT count(*) FROM call_history), (SELECT count(*) FROM machine),
               (SELECT count(*) FROM dead_letter), (SELECT count(*) FROM command WHERE status <> 'applied')
        """
    )


async def test_the_one_machine_silent_since_2022_is_kept_whole(imported: Imported) -> None:
    house = imported.house
    assert await house.rows("SELECT machine_id, recorded_at, hour_meter_ch, fuel_level_pct FROM ping_outlier") == [
        ("EXC-006", datetime(2022, 11, 30, 17, 41, 23, tzinfo=UTC), 143_767, 80.0)
    ]
    assert await house.rows("SELECT count(*), count(DISTINCT machine_id) FROM ping") == [(24, 24)]


class Called:
    """EXC-001's call with each answer on its way to the end."""

    def __init__(self, house: House, number: Answer, waiting: Answer, claim: Answer, outcome: Answer) -> None:
        self.house = house
        self.number = number
        [self.waiting] = waiting.json()["items"]
        [self.claimed] = claim.json()["tasks"]
        self.outcome = outcome


@pytest.fixture(scope="module")
async def called(imported: Imported) -> Called:
    """A number is registered, the call is claimed, made and told; nothing else is."""
    house = imported.house
    change = {"machine_id": "EXC-001", "customer_name": NAME, "customer_phone": PHONE}
    number = await house.ask("POST", "/v1/machines", json=change)
    waiting = await house.ask("GET", "/v1/calls", params={"machine_id": "EXC-001"})
    claim = await house.ask("POST", "/v1/calls/claim", role=Role.CALL_CENTER, json={"expert_id": "EXP-7", "max": 50})
    [task] = claim.json()["tasks"]
    told = {"lease_token": task["lease_token"], "outcome": "answered_booked", "note": NOTE}
    outcome = await house.ask("POST", f"/v1/calls/{task['task_id']}/outcome", role=Role.CALL_CENTER, json=told)
    await house.settle()
    return Called(house, number, waiting, claim, outcome)


async def test_with_a_number_the_call_goes_on_is_claimed_made_and_told(called: Called) -> None:
    assert called.number.status_code == 200
    waiting, claimed = called.waiting, called.claimed
    assert (waiting["state"], waiting["state_reason"]) == ("pending", None)
    assert (claimed["state"], claimed["assigned_to"]) == ("claimed", "EXP-7")
    assert claimed["customer"] == {"name": NAME, "phone": PHONE}
    assert claimed["reasons"] == waiting["reasons"]
    assert (called.outcome.status_code, called.outcome.json()["state"]) == (200, "completed")
    assert called.outcome.json()["reasons"] == waiting["reasons"]
    mine = [event for event in await called.house.events(topics.CALLS) if event["subject"] == claimed["task_id"]]
    assert [event["data"]["state"] for event in mine[-3:]] == ["pending", "claimed", "completed"]


async def test_what_is_settled_stays_settled_and_nobody_elses_call_moved(called: Called) -> None:
    house, task = called.house, called.claimed
    nothing = await house.ask("POST", "/v1/calls/claim", role=Role.CALL_CENTER, json={"expert_id": "EXP-8", "max": 50})
    assert nothing.json() == {"tasks": []}
    again = {"lease_token": task["lease_token"], "outcome": "no_answer"}
    stale = await house.ask("POST", f"/v1/calls/{task['task_id']}/outcome", role=Role.CALL_CENTER, json=again)
    assert stale.status_code == 409
    states = Counter((one["state"], one["machine_id"] == "EXC-001") for one in await house.all_items("/v1/calls"))
    assert states == {("escalated", False): 24, ("completed", True): 1}


async def test_the_customer_is_told_in_the_claims_answer_and_nowhere_else(called: Called) -> None:
    house = called.house
    texts = [called.outcome.text, called.number.text]
    paths = ("/v1/calls", "/v1/machines", "/v1/machines/EXC-001", "/v1/alerts", "/metrics")
    texts += [(await house.ask("GET", path)).text for path in paths]
    for name in _ALL_TOPICS:
        texts += [(record.value or b"").decode() for record in await house.topic(name)]
    for [table] in await house.rows("SELECT relname FROM pg_stat_user_tables WHERE schemaname = current_schema()"):
        texts += [str(row) for row in await house.rows(f"SELECT * FROM {table}")]
    assert len(texts) > 1_000
    assert [text for text in texts if any(mark in text for mark in _MARKS)] == []
    assert await house.rows("SELECT count(*) FROM personal_access WHERE machine_id = 'EXC-001'") == [(1,)]


_MARKS = (PHONE.removeprefix("+"), *(form for mark in (NAME, NOTE) for form in (mark, json.dumps(mark)[1:-1])))
_ALL_TOPICS = (
    topics.PINGS,
    topics.COMMANDS,
    topics.MAINTENANCE_DUE,
    topics.ANOMALY,
    topics.CALLS,
    topics.DEAD_LETTERS,
)


async def test_a_later_reading_opens_a_call_of_its_own(imported: Imported, called: Called) -> None:
    """34.30 h on, EXC-001 comes within 50 h of its 8 000 h; what was talked about stays settled."""
    house = called.house
    ping = {"machine_id": "EXC-001", "recorded_at": "2026-09-18T15:25:16Z", "hour_meter_h": 7950.0}
    key = await house.key(Role.DEVICE, "EXC-001")
    assert (await house.ask("POST", "/v1/pings", key=key, json=[ping])).status_code == 202

    async def is_called() -> bool:
        return len((await house.ask("GET", "/v1/calls", params={"machine_id": "EXC-001"})).json()["items"]) == 2

    await until(is_called)
    _, new = (await house.ask("GET", "/v1/calls", params={"machine_id": "EXC-001"})).json()["items"]
    assert (new["state"], new["priority"]) == ("pending", 8)
    assert [(reason["stage"], reason["milestone_h"]) for reason in new["reasons"]] == [("upcoming", 8000)]
    await house.settle()
    assert len(await house.events(topics.MAINTENANCE_DUE)) == len(imported.maintenance) + 1
