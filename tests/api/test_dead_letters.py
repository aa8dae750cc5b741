"""`/v1/dead-letters`: found by filter and cursor, shown with their bytes, wanted again without harm."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from telemetry_svc import topics
from telemetry_svc.store.keys import Role
from tests.api.house import MACHINE, House

LETTERS = "/v1/dead-letters"
REPLAY = f"{LETTERS}/replay"


async def write(house: House, offset: int, **fields: Any) -> str:
    """One letter as ingest writes it; returns its id."""
    given = {
        "topic": topics.PINGS,
        "partition": 3,
        "topic_offset": offset,
        "error_class": "invalid",
        "error_message": "why",
        "machine_id": MACHINE,
        "record_timestamp": house.clock.now(),
        "record_value": b"\x1b[2J\xff",
    } | fields
    names = ", ".join(given)
    async with house.engine.begin() as connection:
        values = ", ".join(f":{name}" for name in given)
        await connection.execute(text(f"INSERT INTO dead_letter ({names}) VALUES ({values})"), given)
    return f"{given['topic']}:{given['partition']}:{offset}"


async def want(house: House, **body: Any) -> Any:
    answer = await house.ask("POST", REPLAY, content=json.dumps(body))
    assert answer.status_code == 202, answer.text
    return answer.json()


async def statuses(house: House) -> list[str]:
    return [item["status"] for item in (await house.get(LETTERS)).json()["items"]]


async def test_letters_are_listed_page_by_page(house: House) -> None:
    ids = [await write(house, number) for number in range(5)]
    seen, cursor = [], None
    while True:
        page = (await house.get(LETTERS, limit=2, **({} if cursor is None else {"cursor": cursor}))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids
    assert "record_value" not in json.dumps(page)


async def test_they_are_found_by_filter(house: House) -> None:
    ours = await write(house, 1)
    await write(house, 2, machine_id="GHOST-1", error_class="unknown_machine")
    for wanted in (
        {"machine_id": MACHINE},
        {"error_class": "invalid"},
        {"error_class": "invalid", "topic": topics.PINGS, "status": "open", "since": "2026-01-01T00:00:00Z"},
    ):
        assert [item["id"] for item in (await house.get(LETTERS, **wanted)).json()["items"]] == [ours]
    assert (await house.get(LETTERS, until="2026-01-01T00:00:00Z")).json()["items"] == []
    assert (await house.get(LETTERS, error_class="bad")).status_code == 422


async def test_one_is_shown_with_its_bytes_and_with_a_text_that_does_nothing(house: House) -> None:
    letter_id = await write(house, 7, record_key=b"k", record_headers='[["trace", null], ["h", "/g=="]]')
    shown = (await house.get(f"{LETTERS}/{letter_id}")).json()
    assert (shown["value_base64"], shown["value_text"]) == ("G1sySv8=", r"\x1b[2J\xff")
    assert (shown["key_base64"], shown["status"], shown["machine_id"]) == ("aw==", "open", MACHINE)
    assert shown["headers_base64"] == [["trace", None], ["h", "/g=="]]


@pytest.mark.parametrize(
    ("letter_id", "status"),
    [
        pytest.param("excavator.pings:3:8", 404, id="none there"),
        pytest.param("excavator.pings:3", 422, id="no offset"),
        pytest.param("excavator.pings:3:99999999999999999999", 422, id="no such offset"),
        pytest.param("excavator.pings:-1:8", 422, id="no such partition"),
        pytest.param("x", 422, id="no id"),
    ],
)
async def test_what_is_not_there(house: House, letter_id: str, status: int) -> None:
    assert (await house.get(f"{LETTERS}/{letter_id}")).status_code == status


async def test_wanting_is_a_mark_and_may_be_said_again(house: House) -> None:
    letter_id = await write(house, 1)
    await write(house, 2, taken_up_as="replayed", taken_up_at=house.clock.now())
    await write(house, 3, taken_up_as="invalid", taken_up_why="still", taken_up_at=house.clock.now())
    await write(house, 4, topic=topics.ANOMALY)
    before = await house.counts()
    foreseen = await want(house, error_class="invalid", dry_run=True)
    assert foreseen == {"requested": 2, "parked": 0, "done": 1, "elsewhere": 1, "left_out": []}
    assert await statuses(house) == ["open", "replayed", "refused", "open"]
    for _ in range(2):
        assert await want(house, error_class="invalid") == foreseen
        assert await statuses(house) == ["requested", "replayed", "requested", "open"]
    again = await want(house, ids=[letter_id])
    assert again == {"requested": 1, "parked": 0, "done": 0, "elsewhere": 0, "left_out": []}
    assert await house.counts() == before


async def test_ids_that_are_not_tried_are_named(house: House) -> None:
    """Each once and in the order in which they were asked for, also where it is only asked what would be done."""
    now = house.clock.now()
    ids = [
        await write(house, 1),
        await write(house, 2, taken_up_as="replayed", taken_up_at=now),
        await write(house, 3, taken_up_as="invalid", taken_up_why="still", taken_up_at=now),
        await write(house, 4, topic=topics.ANOMALY),
        await write(house, 5, error_class="malformed"),
        await write(house, 6, taken_up_as="repeated", taken_up_at=now),
        "excavator.pings:3:7",
    ]
    whys = [("2", "replayed"), ("4", "elsewhere"), ("5", "filtered"), ("6", "repeated"), ("7", "missing")]
    for dry_run in (True, False, False):
        answer = await want(house, ids=ids + ids[::-1], error_class="invalid", dry_run=dry_run)
        named = [(one["id"].split(":")[2], one["why"]) for one in answer.pop("left_out")]
        assert named == whys
        assert answer == {"requested": 2, "parked": 0, "done": 2, "elsewhere": 1}
    assert await statuses(house) == ["requested", "replayed", "requested", "open", "open", "repeated"]


async def test_a_parked_machine_is_tried_at_once(house: House) -> None:
    await write(house, 1, error_class="internal")
    async with house.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO parked_machine (machine_id, partition, topic, topic_offset, reason, next_try_at)"
                " VALUES (:machine_id, 3, :topic, 1, 'why', now() + interval '1 hour')"
            ),
            {"machine_id": MACHINE, "topic": topics.PINGS},
        )
    assert await statuses(house) == ["parked"]
    answer = await want(house, machine_id=MACHINE)
    assert answer == {"requested": 0, "parked": 1, "done": 0, "elsewhere": 0, "left_out": []}
    assert await statuses(house) == ["parked"]
    async with house.engine.connect() as connection:
        assert await connection.scalar(text("SELECT next_try_at <= clock_timestamp() FROM parked_machine"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing named"),
        pytest.param({"dry_run": True}, id="nothing named but a dry run"),
        pytest.param({"ids": []}, id="no ids"),
        pytest.param({"ids": ["x"]}, id="no id"),
        pytest.param({"ids": ["a:0:0"] * 1_001}, id="too many"),
        pytest.param({"status": "lost"}, id="no such status"),
        pytest.param({"class": "invalid"}, id="no such field"),
    ],
)
async def test_a_wish_that_does_not_fit(house: House, body: dict[str, Any]) -> None:
    await write(house, 1)
    answer = await house.ask("POST", REPLAY, content=json.dumps(body))
    assert answer.status_code == 422
    assert await statuses(house) == ["open"]


async def test_only_ops_may(house: House) -> None:
    for role in (Role.CALL_CENTER, Role.SUPERVISOR, Role.DEVICE):
        assert (await house.ask("GET", LETTERS, role=role)).status_code == 403
