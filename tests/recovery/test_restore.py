"""The database is set back, Kafka is not: facts keep their ids, and no call is made twice (faults.md, 48)."""

from typing import Any

from sqlalchemy import text

from telemetry_svc import topics
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.store.keys import Role as KeyRole
from telemetry_svc.stream.kafka import KafkaSettings
from tests.e2e.house import House, house_on, until
from tests.recovery.conftest import Databases

EXPERT = "EXP-7"


async def register(house: House, *names: str) -> None:
    machines = [{"machine_id": name, "tonnage_t": 22.5, "customer_phone": "+8613800000000"} for name in names]
    answer = await house.ask("POST", "/v1/machines", json=machines)
    assert {one["status"] for one in answer.json()["results"]} == {201}


async def reading(house: House, hours_h: int, *names: str) -> None:
    recorded_at = {50: "2026-10-01T04:20:31Z", 250: "2026-11-20T04:20:31Z"}[hours_h]
    pings = [{"machine_id": one, "recorded_at": recorded_at, "hour_meter_h": hours_h} for one in names]
    answer = await house.ask("POST", "/v1/pings", role=KeyRole.ADMIN, json=pings)
    assert {one["status"] for one in answer.json()["verdicts"]} == {"accepted"}
    await house.settle()


async def tasks(house: House) -> dict[str, dict[str, Any]]:
    """The newest task of each machine."""
    items = await house.all_items("/v1/calls", KeyRole.CALL_CENTER)
    return {item["machine_id"]: item for item in items}


async def claim(house: House, machine: str) -> dict[str, Any]:
    task_id = (await tasks(house))[machine]["task_id"]
    path = f"/v1/calls/{task_id}/claim"
    answer = await house.ask("POST", path, role=KeyRole.CALL_CENTER, json={"expert_id": EXPERT, "lease_s": 600})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def call(house: House, machine: str, outcome: str = "answered_booked") -> None:
    """Claimed, phoned, settled."""
    task = await claim(house, machine)
    body = {"lease_token": task["lease_token"], "outcome": outcome}
    path = f"/v1/calls/{task['task_id']}/outcome"
    answer = await house.ask("POST", path, role=KeyRole.CALL_CENTER, json=body)
    assert answer.status_code == 200, answer.text


async def claimed_by_anybody(house: House) -> list[str]:
    """Whom one would call next, all of them."""
    body = {"expert_id": "EXP-8", "max": 50}
    answer = await house.ask("POST", "/v1/calls/claim", role=KeyRole.CALL_CENTER, json=body)
    assert answer.status_code == 200, answer.text
    return sorted(task["machine_id"] for task in answer.json()["tasks"])


async def facts(house: House) -> set[tuple[Any, ...]]:
    return set(await house.rows("SELECT machine_id, id, rule, subject, stage, time FROM event"))


async def lived(house: House) -> None:
    """What happens between the copy and the disaster; each machine ends elsewhere."""
    await call(house, "PENDING-THEN-CALLED")
    await call(house, "CLAIMED-THEN-CALLED-LATER", "no_answer")
    await reading(house, 50, "NEW-AND-CALLED", "NEW-AND-CLAIMED", "NEW-AND-PENDING")
    await call(house, "NEW-AND-CALLED")
    await claim(house, "NEW-AND-CLAIMED")
    await call(house, "CALLED-BEFORE-AND-DUE-AGAIN")
    await reading(house, 250, "CALLED-BEFORE-AND-DUE-AGAIN")
    await house.settle()


BEFORE = ("PENDING-THEN-CALLED", "CLAIMED-THEN-CALLED-LATER", "CALLED-BEFORE-AND-DUE-AGAIN", "NEVER-TOUCHED")
AFTER = ("NEW-AND-CALLED", "NEW-AND-CLAIMED", "NEW-AND-PENDING")


async def test_set_back_by_ten_minutes_with_kafka_ahead(
    databases: Databases, kafka: KafkaSettings, clean_topics: None
) -> None:
    keyring = new_keyring_text()
    original = await databases.migrated()
    async with house_on(kafka, databases.engine(original), databases.url(original), keyring) as house:
        await register(house, *BEFORE, *AFTER)
        await reading(house, 50, *BEFORE)
        await house.key(KeyRole.CALL_CENTER)
    await databases.engines.pop().dispose()
    backup = await databases.new(template=original)
    async with house_on(kafka, databases.engine(original), databases.url(original), keyring) as house:
        await lived(house)
        expected, last = await facts(house), await tasks(house)
    await databases.engines.pop().dispose()

    restored = databases.engine(backup)
    async with house_on(kafka, restored, databases.url(backup), keyring, ready=False) as house:
        await until(lambda: held(house))
        body = {"expert_id": "EXP-8", "max": 50}
        refused = await house.ask("POST", "/v1/calls/claim", role=KeyRole.CALL_CENTER, json=body)
        assert refused.status_code == 503
        assert "restored" in refused.json()["detail"]
        code, out, err = await house.cli("recover")
    assert code == 0, err
    assert "calls are given out again" in out
    assert f"ask {EXPERT} about NEW-AND-CLAIMED" in out
    async with house_on(kafka, restored, databases.url(backup), keyring) as house:
        await house.settle()
        assert await facts(house) == expected
        now = await tasks(house)
        assert {name: task["state"] for name, task in now.items()} == {
            "PENDING-THEN-CALLED": "completed",
            "CLAIMED-THEN-CALLED-LATER": "waiting_window",
            "NEVER-TOUCHED": "pending",
            "NEW-AND-CALLED": "completed",
            "NEW-AND-CLAIMED": "claimed",
            "NEW-AND-PENDING": "pending",
            "CALLED-BEFORE-AND-DUE-AGAIN": "pending",
        }
        assert shown(now) == shown(last)
        assert await claimed_by_anybody(house) == ["CALLED-BEFORE-AND-DUE-AGAIN", "NEVER-TOUCHED", "NEW-AND-PENDING"]
        code, out, err = await house.cli("recover")
        assert (code, "0 tasks put back" in out) == (0, True), (out, err)
        told = {event["data"]["task_id"]: event["data"]["state"] for event in await house.events(topics.CALLS)}
        assert told[now["NEW-AND-CALLED"]["task_id"]] == "completed", "the topic ends with how it is"


def shown(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a task says of itself, less the times of what was put back."""
    fields = ("task_id", "state", "priority", "attempts", "not_before", "created_at", "reasons", "assigned_to")
    return {name: {field: task[field] for field in fields} for name, task in found.items()}


async def held(house: House) -> bool:
    answer = await house.ask("GET", "/readyz")
    return "run `telemetry-svc recover`" in str(answer.json().get("checks"))


async def test_transaction_ids_of_another_server_are_lowered_in_their_order(
    databases: Databases, kafka: KafkaSettings, clean_topics: None
) -> None:
    keyring = new_keyring_text()
    name = await databases.migrated()
    engine = databases.engine(name)
    async with house_on(kafka, engine, databases.url(name), keyring) as house:
        await register(house, "FIRST", "SECOND")
        await reading(house, 50, "FIRST")
        await reading(house, 250, "FIRST", "SECOND")
        before = [item["id"] for item in await house.all_items("/v1/alerts")]
        async with engine.begin() as connection:
            for table in ("event", "call_task", "call_history"):
                statement = f"UPDATE {table} SET xid = (xid::text::bigint + 1000000)::text::xid8"
                await connection.execute(text(statement))
        assert await house.all_items("/v1/alerts") == []
        code, out, err = await house.cli("recover")
        assert code == 0, err
        assert "rows had transaction ids of another server" in out
        assert [item["id"] for item in await house.all_items("/v1/alerts")] == before
        assert set(await tasks(house)) == {"FIRST", "SECOND"}
