"""The routes of calls as the call centre meets them (contract.md, Calls), on the real database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from telemetry_svc.api.calls import CallParts, create_router
from telemetry_svc.calls import rest_id_of, task_id_of
from telemetry_svc.events import Severity
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.store import contacts
from telemetry_svc.store.contacts import Contact
from telemetry_svc.store.keys import Role
from telemetry_svc.telemetry import MachineId
from tests.calls.service import MARKED_NAME, MARKED_PHONE, CallService
from tests.notify.alerts import fault, inspection, reason_id
from tests.web.doubles import KeysInMemory, app_of, bearer, client_of

CLAIM = "/v1/calls/claim"


@dataclass
class CallCentre:
    """A client with a key of the role `call_center`, and the service behind it."""

    service: CallService
    client: httpx.AsyncClient
    keys: KeysInMemory

    async def post(self, path: str, body: dict[str, Any], *, repeat_key: str | None = None) -> httpx.Response:
        headers = {} if repeat_key is None else {"Idempotency-Key": repeat_key}
        return await self.client.post(path, json=body, headers=headers)

    async def claimed(self, *machine_ids: str, people: Any = None, **fields: Any) -> list[dict[str, Any]]:
        """One due inspection for each of these machines, claimed by EXP-9."""
        ids = await self.service.register(*machine_ids, **({} if people is None else {"people": people}), **fields)
        await self.service.raise_one_each(ids)
        answer = await self.post(CLAIM, {"expert_id": "EXP-9", "max": len(ids)})
        assert answer.status_code == 200
        tasks: list[dict[str, Any]] = answer.json()["tasks"]
        return tasks

    async def settle(self, task: dict[str, Any], outcome: str, **more: Any) -> httpx.Response:
        body = {"lease_token": task["lease_token"], "outcome": outcome} | more
        return await self.post(f"/v1/calls/{task['task_id']}/outcome", body)


@pytest.fixture
async def centre(service: CallService) -> AsyncIterator[CallCentre]:
    keys = KeysInMemory()
    app = app_of([create_router(CallParts(service.engine, service.desk, service.keyring))], keys=keys)
    async with client_of(app) as client:
        client.headers.update(bearer(keys.add(Role.CALL_CENTER)))
        yield CallCentre(service, client, keys)


async def test_the_answer_of_a_claim_and_only_it_has_the_customer(centre: CallCentre) -> None:
    [task] = await centre.claimed("ZE215-000017", expert_id="EXP-9", customer_id="CUST-1")
    assert task["customer"] == {"name": MARKED_NAME, "phone": MARKED_PHONE}
    assert (task["task_id"], task["state"]) == ("a4b7fbe1-37ea-5ccf-9f04-25fac2a3c6f3", "claimed")
    assert (task["priority"], task["assigned_to"], task["attempts"]) == (6, "EXP-9", 0)
    assert 119 < task["lease_s_left"] <= 120
    assert [(r["kind"], r["stage"], r["milestone_h"]) for r in task["reasons"]] == [("inspection", "due", 250)]

    path = f"/v1/calls/{task['task_id']}"
    token = {"lease_token": task["lease_token"]}
    others = [
        await centre.client.get("/v1/calls"),
        await centre.client.get(path),
        await centre.post(f"{path}/renew", token),
        await centre.settle(task, "answered_booked"),
    ]
    for answer in others:
        assert answer.status_code == 200
        assert MARKED_NAME not in answer.text
        assert MARKED_PHONE not in answer.text


async def test_every_reading_of_a_customer_is_audited(centre: CallCentre) -> None:
    await centre.claimed("A-1", "A-2")
    rows = await centre.service.rows("SELECT who, machine_id, why FROM personal_access ORDER BY machine_id")
    assert [(row.who, row.machine_id, row.why) for row in rows] == [
        ("call_center:0000000000000001", "A-1", "claimed a call"),
        ("call_center:0000000000000001", "A-2", "claimed a call"),
    ]


async def test_a_contact_that_does_not_open_stops_no_claim(centre: CallCentre) -> None:
    """Its box was sealed with a keyring that is gone: that task has nobody to call, its neighbours go on."""
    ids = await centre.service.register("A-1", "A-2", "A-3")
    async with centre.service.engine.begin() as connection:
        gone = Keyring.parse(new_keyring_text())
        await contacts.replace(connection, gone, {ids[1]: {0: Contact(MARKED_NAME, MARKED_PHONE)}})
    await centre.service.raise_one_each(ids)
    answer = await centre.post(CLAIM, {"expert_id": "EXP-9", "max": 3})
    assert answer.status_code == 200
    tasks = {task["machine_id"]: task for task in answer.json()["tasks"]}
    customer = {"name": MARKED_NAME, "phone": MARKED_PHONE}
    assert {machine_id: task["customer"] for machine_id, task in tasks.items()} == {
        "A-1": customer,
        "A-2": None,
        "A-3": customer,
    }
    assert [row.machine_id for row in await centre.service.rows("SELECT machine_id FROM personal_access")] == [
        "A-1",
        "A-3",
    ]

    given_back = await centre.post(
        f"/v1/calls/{tasks['A-2']['task_id']}/release", {"lease_token": tasks["A-2"]["lease_token"]}
    )
    assert given_back.status_code == 200
    alone = await centre.post(f"/v1/calls/{tasks['A-2']['task_id']}/claim", {"expert_id": "EXP-8"})
    assert (alone.status_code, alone.json()["customer"]) == (200, None)
    assert (await centre.settle(alone.json(), "wrong_number")).json()["state"] == "escalated"


async def test_after_a_wrong_number_the_next_contact_is_told(centre: CallCentre) -> None:
    people = [
        Contact("first", "+8613800000001"),
        Contact("no number", None),
        Contact("next", "+8613800000002"),
    ]
    [task] = await centre.claimed("A-1", people=people)
    assert task["customer"]["name"] == "first"
    assert (await centre.settle(task, "wrong_number")).json()["state"] == "pending"
    [again] = (await centre.post(CLAIM, {"expert_id": "EXP-9"})).json()["tasks"]
    assert again["customer"]["name"] == "next"
    settled = (await centre.settle(again, "wrong_number")).json()
    assert (settled["state"], settled["state_reason"], settled["attempts"]) == ("escalated", "wrong_number", 2)


async def test_one_of_his_choice_is_answered_alone(centre: CallCentre) -> None:
    await centre.service.register("A-1")
    await centre.service.raise_one_each([MachineId("A-1")])
    task_id = task_id_of(reason_id(inspection(250, "due", MachineId("A-1"))))
    answer = await centre.post(f"/v1/calls/{task_id}/claim", {"expert_id": "EXP-9", "lease_s": 30})
    assert answer.status_code == 200
    assert answer.json()["customer"] == {"name": MARKED_NAME, "phone": MARKED_PHONE}
    assert 29 < answer.json()["lease_s_left"] <= 30
    again = await centre.post(f"/v1/calls/{task_id}/claim", {"expert_id": "EXP-8"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:telemetry-svc:problem:not-offered")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"expert_id": "EXP-9", "max": 0}, "max", id="max-0"),
        pytest.param({"expert_id": "EXP-9", "max": 51}, "max", id="max-51"),
        pytest.param({"expert_id": "EXP-9", "max": "5"}, "max", id="max-text"),
        pytest.param({"expert_id": "EXP-9", "lease_s": 0.5}, "lease_s", id="lease-below-1-s"),
        pytest.param({"expert_id": "EXP-9", "lease_s": 3601}, "lease_s", id="lease-above-an-hour"),
        pytest.param({}, "expert_id", id="nobody"),
        pytest.param({"expert_id": ""}, "expert_id", id="empty-name"),
        pytest.param({"expert_id": "EXP-9", "colour": "red"}, "colour", id="unknown-field"),
    ],
)
async def test_a_claim_that_does_not_fit(centre: CallCentre, body: dict[str, Any], field: str) -> None:
    answer = await centre.post(CLAIM, body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(("most", "lease_s"), [(1, 1), (50, 3600)], ids=["least", "most"])
async def test_the_bounds_of_a_claim_are_taken(centre: CallCentre, most: int, lease_s: int) -> None:
    answer = await centre.post(CLAIM, {"expert_id": "EXP-9", "max": most, "lease_s": lease_s})
    assert (answer.status_code, answer.json()) == (200, {"tasks": []})


async def test_no_room_left_is_429(centre: CallCentre) -> None:
    await centre.claimed(*(f"M-{number:02}" for number in range(50)))
    answer = await centre.post(CLAIM, {"expert_id": "EXP-9"})
    assert (answer.status_code, answer.json()["type"]) == (429, "urn:telemetry-svc:problem:no-room")


async def test_a_key_bound_to_an_expert_speaks_for_no_other(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    centre.client.headers.update(bearer(centre.keys.add(Role.CALL_CENTER, expert_id="EXP-8")))
    assert (await centre.post(CLAIM, {"expert_id": "EXP-9"})).status_code == 403
    assert (await centre.settle(task, "answered_info")).status_code == 403
    assert (await centre.post(CLAIM, {})).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"outcome": "fell_asleep"}, "outcome", id="unknown-outcome"),
        pytest.param({"outcome": "callback_later", "callback_at": "2020-01-01T00:00:00Z"}, "callback_at", id="past"),
        pytest.param(
            {"outcome": "callback_later", "callback_at": "2099-01-01T00:00:00"}, "callback_at", id="naive-time"
        ),
        pytest.param({"outcome": "answered_info", "satisfaction": 6}, "satisfaction", id="satisfaction-6"),
        pytest.param({"outcome": "answered_info", "reasons_done": ["x"]}, "reasons_done.0", id="no-uuid"),
        pytest.param({"outcome": "answered_info", "reasons_done": [str(uuid4())]}, "reasons_done", id="none-of-it"),
        pytest.param({}, "outcome", id="no-outcome"),
    ],
)
async def test_an_outcome_that_does_not_fit(centre: CallCentre, body: dict[str, Any], field: str) -> None:
    [task] = await centre.claimed("A-1")
    answer = await centre.post(f"/v1/calls/{task['task_id']}/outcome", {"lease_token": task["lease_token"]} | body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await centre.client.get(f"/v1/calls/{task['task_id']}")).json()["state"] == "claimed"


async def test_a_full_report(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    answer = await centre.settle(
        task,
        "answered_booked",
        note=f"spoke with {MARKED_NAME}",
        reasons_done=[task["reasons"][0]["alert_id"]],
        appointment={"at": "2030-01-01T09:00:00+08:00", "place": "site 3", "contact": MARKED_NAME},
        solved_by_phone=False,
        satisfaction=5,
        usage="10 h a day",
        feedback="good",
    )
    assert (answer.status_code, answer.json()["state"]) == (200, "completed")
    assert [r["alert_id"] for r in answer.json()["reasons"]] == [task["reasons"][0]["alert_id"]]
    assert MARKED_NAME not in str(await centre.service.announced())


async def test_what_is_left_has_the_id_of_the_contract(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    await centre.service.take(fault(Severity.MAJOR, machine=MachineId("A-1")))
    await centre.settle(task, "answered_booked")
    old = task_id_of(reason_id(inspection(250, "due", MachineId("A-1"))))
    rest = (await centre.client.get(f"/v1/calls/{rest_id_of(old)}")).json()
    assert (rest["state"], rest["priority"]) == ("pending", 2)


@pytest.mark.parametrize("action", ["renew", "release", "reject", "outcome"])
async def test_a_stale_token_is_409_and_an_unknown_task_404(centre: CallCentre, action: str) -> None:
    [task] = await centre.claimed("A-1")
    body = {"lease_token": str(uuid4())} | ({"outcome": "answered_info"} if action == "outcome" else {})
    stale = await centre.post(f"/v1/calls/{task['task_id']}/{action}", body)
    assert (stale.status_code, stale.json()["type"]) == (409, "urn:telemetry-svc:problem:stale-token")
    for nowhere in (str(uuid4()), "no-id"):
        assert (await centre.post(f"/v1/calls/{nowhere}/{action}", body)).status_code == 404
        assert (await centre.client.get(f"/v1/calls/{nowhere}")).status_code == 404
    assert (await centre.client.get(f"/v1/calls/{task['task_id']}")).json()["state"] == "claimed"


async def test_the_same_outcome_five_times_in_parallel_is_one(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    path, body = f"/v1/calls/{task['task_id']}/outcome", {"lease_token": task["lease_token"], "outcome": "no_answer"}
    answers = await asyncio.gather(*(centre.post(path, body, repeat_key="k-1") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["attempts"] == 1
    assert await centre.service.count("call_history WHERE step = 'outcome'") == 1
    assert await centre.service.count("call_outcome") == 1


async def test_without_a_key_the_second_of_two_is_too_late(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    answers = await asyncio.gather(*(centre.settle(task, "no_answer") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    assert await centre.service.count("call_outcome") == 1


async def test_one_key_for_two_requests_is_422(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    path = f"/v1/calls/{task['task_id']}/renew"
    assert (await centre.post(path, {"lease_token": task["lease_token"]}, repeat_key="k-1")).status_code == 200
    other = await centre.post(path, {"lease_token": task["lease_token"], "lease_s": 5}, repeat_key="k-1")
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_a_failure_is_not_remembered(centre: CallCentre) -> None:
    [task] = await centre.claimed("A-1")
    path, body = f"/v1/calls/{task['task_id']}/release", {"lease_token": str(uuid4())}
    assert (await centre.post(path, body, repeat_key="k-1")).status_code == 409
    assert await centre.service.count("call_idempotency") == 0


async def test_a_repeated_claim_gives_the_same_lease_and_forgets_the_customer_with_it(centre: CallCentre) -> None:
    ids = await centre.service.register("A-1", "A-2")
    await centre.service.raise_one_each(ids)
    body = {"expert_id": "EXP-9"}
    first, second = [(await centre.post(CLAIM, body, repeat_key="k-1")).json()["tasks"] for _ in range(2)]
    assert first == second
    assert first[0]["customer"] == {"name": MARKED_NAME, "phone": MARKED_PHONE}
    [row] = await centre.service.rows("SELECT answer::text FROM call_idempotency")
    assert MARKED_PHONE not in row.answer
    assert MARKED_NAME not in row.answer

    await centre.settle(first[0], "answered_info")
    [later] = (await centre.post(CLAIM, body, repeat_key="k-1")).json()["tasks"]
    assert (later["task_id"], later["customer"]) == (first[0]["task_id"], None)


async def test_a_repeat_after_the_lease_ran_out_shows_nobody(centre: CallCentre) -> None:
    ids = await centre.service.register("A-1")
    await centre.service.raise_one_each(ids)
    await centre.post(CLAIM, {"expert_id": "EXP-9"}, repeat_key="k-1")
    await centre.service.run("UPDATE call_task SET lease_expires_at = clock_timestamp()")
    [task] = (await centre.post(CLAIM, {"expert_id": "EXP-9"}, repeat_key="k-1")).json()["tasks"]
    assert task["customer"] is None
    assert await centre.service.count("personal_access") == 1


async def test_the_list_by_state_and_machine_in_pages(centre: CallCentre) -> None:
    ids = await centre.service.register(*(f"M-{number}" for number in range(5)))
    await centre.service.raise_one_each(ids)
    await centre.service.claim(most=2)

    async def listed(**query: Any) -> tuple[list[str], str | None]:
        answer = (await centre.client.get("/v1/calls", params=query)).json()
        return [item["machine_id"] for item in answer["items"]], answer["next_cursor"]

    seen, cursor = await listed(limit=2)
    while cursor is not None:
        more, cursor = await listed(limit=2, cursor=cursor)
        seen += more
    assert seen == ids
    assert len((await listed(state="claimed"))[0]) == 2
    assert len((await listed(state=["claimed", "pending"]))[0]) == 5
    assert await listed(machine_id="M-3") == (["M-3"], None)
    assert await listed(state="completed") == ([], None)


@pytest.mark.parametrize(
    ("query", "field"),
    [({"state": "asleep"}, "state.0"), ({"limit": 1_000_000}, "limit"), ({"cursor": "%%%"}, "cursor")],
    ids=["state", "limit", "cursor"],
)
async def test_a_list_that_cannot_be(centre: CallCentre, query: dict[str, Any], field: str) -> None:
    answer = await centre.client.get("/v1/calls", params=query)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_no_task_that_commits_late_is_skipped(centre: CallCentre) -> None:
    early, late = await centre.service.register("EARLY", "LATE")
    async with centre.service.engine.connect() as slow:
        await slow.exec_driver_sql("SELECT pg_current_xact_id()")
        await centre.service.raise_one_each([early])
        assert (await centre.client.get("/v1/calls")).json()["items"] == []
        await slow.rollback()
    await centre.service.raise_one_each([late])
    assert [item["machine_id"] for item in (await centre.client.get("/v1/calls")).json()["items"]] == [early, late]


async def test_every_body_and_answer_is_described_with_examples(centre: CallCentre) -> None:
    centre.client.headers.update(bearer(centre.keys.add(Role.ADMIN)))
    document = (await centre.client.get("/openapi.json")).json()
    paths = {path: set(methods) for path, methods in document["paths"].items() if path.startswith("/v1/calls")}
    assert paths == {
        "/v1/calls": {"get"},
        "/v1/calls/claim": {"post"},
        "/v1/calls/{task_id}": {"get"},
        "/v1/calls/{task_id}/claim": {"post"},
        "/v1/calls/{task_id}/renew": {"post"},
        "/v1/calls/{task_id}/release": {"post"},
        "/v1/calls/{task_id}/reject": {"post"},
        "/v1/calls/{task_id}/outcome": {"post"},
    }
    schemas = document["components"]["schemas"]
    for name in ("CallView", "ClaimBody", "OutcomeBody", "ReasonView", "CustomerView"):
        properties = schemas[name]["properties"]
        assert any("examples" in one for one in properties.values()), name
    assert "customer" not in schemas["CallView"]["properties"]
