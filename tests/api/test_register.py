"""`POST /v1/machines`: what is new, what is kept, what is cleared, what is refused, and that nothing else happened."""

import json
import re
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.codec import command as codec
from telemetry_svc.store import contacts
from telemetry_svc.store.contacts import Contact, Contacts
from telemetry_svc.store.keys import Role
from telemetry_svc.telemetry import MachineId, Registration
from tests.api.house import MACHINE, REV1, TEXT_EDITION, House, machine
from tests.web.doubles import NOON

PHONE, OTHER_PHONE = "+8613800000000", "+8613900000000"
FENCE = {"latitude_deg": 28.228, "longitude_deg": 112.939, "radius_m": 800.0}
FOREIGN_WORDS = re.compile("should|valid|Input|String|Value|pattern|dictionary|parse", re.ASCII)
"""Of pydantic, about its own parts."""

HOURS: list[dict[str, Any]] = [{"days": ["mon", "tue"], "from": "22:00", "to": "06:00"}]
FULL = machine(
    model="ZE215E",
    delivered_on="2026-01-31",
    time_zone="Asia/Urumqi",
    policy_edition=TEXT_EDITION,
    initial_hours_h=249.99,
    status="stored",
    device_ids=["868120241234567", "b"],
    expert_id="EXP-007",
    team_id="TEAM-CS",
    customer_id="客户-42",
    geofence=FENCE,
    permitted_hours=HOURS,
)
DEFAULTS: dict[str, Any] = {
    "model": None,
    "delivered_on": None,
    "time_zone": "Asia/Shanghai",
    "policy_edition": REV1,
    "initial_hours_h": 0.0,
    "status": "active",
    "device_ids": [],
    "expert_id": None,
    "team_id": None,
    "customer_id": None,
    "geofence": None,
    "permitted_hours": [],
}


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    """The registration without its times."""
    return {name: value for name, value in answer.items() if name not in {"registered_at", "changed_at"}}


async def _registrations(house: House) -> list[Registration]:
    found = []
    for topic, key, value in await house.commands():
        decoded = codec.decode(json.dumps(value).encode(), NOON)
        assert isinstance(decoded, Registration)
        assert (topic, key.decode()) == (topics.COMMANDS, decoded.machine.machine_id)
        found.append(decoded)
    return found


async def test_the_least_that_registers_has_every_default(house: House) -> None:
    answer = await house.register(machine())
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/machines/{MACHINE}"
    assert _shown(answer.json()) == machine() | DEFAULTS
    assert await house.counts() == {"machine": 1, "command": 1, "outbox": 1}
    [registration] = await _registrations(house)
    assert registration.machine.policy_edition == REV1
    assert registration.effective_at == NOON
    assert not registration.quiet
    assert house.told == [MACHINE]


async def test_every_field_is_kept_and_told_to_the_rules(house: House) -> None:
    answer = await house.register(FULL)
    assert _shown(answer.json()) == FULL
    [registration] = await _registrations(house)
    told = registration.machine
    assert (told.tonnage_t, told.initial_ch, told.status.value) == (21.5, 24_999, "stored")
    assert (told.time_zone, told.customer_id) == ("Asia/Urumqi", "客户-42")
    assert told.geofence is not None
    assert told.permitted_hours[0].from_ == "22:00"


async def test_the_same_again_is_200_and_nothing_happens(house: House) -> None:
    first = await house.register(FULL)
    house.clock.move(60)
    again = await house.register(FULL)
    assert again.status_code == 200
    assert again.json() == first.json()
    assert await house.counts() == {"machine": 1, "command": 1, "outbox": 1}
    assert house.told == [MACHINE]


async def test_an_absent_field_keeps_its_value(house: House) -> None:
    await house.register(FULL)
    house.clock.move(60)
    answer = await house.register({"machine_id": MACHINE, "model": "ZE215G"})
    assert answer.status_code == 200
    assert _shown(answer.json()) == FULL | {"model": "ZE215G"}
    assert answer.json()["registered_at"] < answer.json()["changed_at"]


async def test_null_clears_or_brings_the_default_back(house: House) -> None:
    await house.register(FULL | {"policy_edition": REV1})
    answer = await house.register({"machine_id": MACHINE} | dict.fromkeys(DEFAULTS))
    assert answer.status_code == 200
    assert _shown(answer.json()) == machine() | DEFAULTS
    assert len(await _registrations(house)) == 2


async def test_null_for_the_edition_is_the_default_edition(house: House) -> None:
    await house.register(FULL)
    answer = await house.register({"machine_id": MACHINE, "policy_edition": None})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "policy_edition"


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "ZE215G"), ("device_ids", ["c"]), ("expert_id", "EXP-008"), ("team_id", None)],
)
async def test_what_the_rules_do_not_know_makes_no_command(house: House, field: str, value: object) -> None:
    await house.register(FULL)
    answer = await house.register({"machine_id": MACHINE, field: value})
    assert answer.json()[field] == value
    assert len(await _registrations(house)) == 1
    assert house.told == [MACHINE, MACHINE]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tonnage_t", 20),
        ("delivered_on", None),
        ("time_zone", "UTC"),
        ("initial_hours_h", 250),
        ("status", "retired"),
        ("customer_id", "CUST-43"),
        ("geofence", None),
        ("permitted_hours", None),
    ],
)
async def test_what_the_rules_know_makes_a_command(house: House, field: str, value: object) -> None:
    await house.register(FULL)
    assert (await house.register({"machine_id": MACHINE, field: value})).status_code == 200
    assert len(await _registrations(house)) == 2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"machine_id": MACHINE}, "tonnage_t", id="no tonnage"),
        pytest.param({"tonnage_t": 21.5}, "machine_id", id="no id"),
        pytest.param(machine(tonnage_t=None), "tonnage_t", id="tonnage null"),
        pytest.param(machine() | {"machine_id": None}, "machine_id", id="id null"),
        pytest.param(machine(tonnage_t=0.49), "tonnage_t", id="too light"),
        pytest.param(machine(tonnage_t=1_000.1), "tonnage_t", id="too heavy"),
        pytest.param(machine(tonnage_t="21.5"), "tonnage_t", id="text for a number"),
        pytest.param(machine(tonnage_t=True), "tonnage_t", id="a boolean for a number"),
        pytest.param(machine("ZE 215"), "machine_id", id="another alphabet"),
        pytest.param(machine("Z" * 65), "machine_id", id="65 characters"),
        pytest.param(machine("fleet"), "machine_id", id="the name of all machines"),
        pytest.param(machine("\ud800"), "machine_id", id="half a surrogate pair"),
        pytest.param(machine(contacts=[{"phone": PHONE, "name": "王\udc00"}]), "contacts.0.name", id="the other half"),
        pytest.param({"machine_id": "A", "tonnage_t": 10**4_290}, "tonnage_t", id="4 291 digits"),
        pytest.param(machine(time_zone="Asia/Changsha"), "time_zone", id="no such zone"),
        pytest.param(machine(time_zone="../../etc/passwd"), "time_zone", id="a path for a zone"),
        pytest.param(machine(time_zone="Asia"), "time_zone", id="half a zone"),
        pytest.param(machine(time_zone="localtime"), "time_zone", id="whatever this machine has"),
        pytest.param(machine(policy_edition="zoomlion-2012"), "policy_edition", id="unknown edition"),
        pytest.param(machine(delivered_on="31.01.2026"), "delivered_on", id="no ISO date"),
        pytest.param(machine(delivered_on="2026-02-29"), "delivered_on", id="no such day"),
        pytest.param(machine(delivered_on=20_260_131), "delivered_on", id="a number for a date"),
        pytest.param(machine(initial_hours_h=-0.01), "initial_hours_h", id="hours under 0"),
        pytest.param(machine(initial_hours_h=200_000.01), "initial_hours_h", id="hours over 200 000"),
        pytest.param(machine(status="sold"), "status", id="unknown status"),
        pytest.param(machine(device_ids=["a b"]), "device_ids.0", id="bad device id"),
        pytest.param(machine(device_ids="a;b"), "device_ids", id="device ids as in CSV"),
        pytest.param(machine(customer_phone="13800000000"), "customer_phone", id="no E.164"),
        pytest.param(machine(customer_phone="+86 138 0000"), "customer_phone", id="blanks in a number"),
        pytest.param(machine(customer_phone="+8613800000000\n"), "customer_phone", id="line break after a number"),
        pytest.param(machine(customer_name="a\x00b"), "customer_name", id="NUL in a name"),
        pytest.param(machine(contacts=[{"name": "王工"}]), "contacts.0.phone", id="a contact without a number"),
        pytest.param(
            machine(contacts=[{"phone": PHONE, "language": "中文"}]), "contacts.0.language", id="no language tag"
        ),
        pytest.param(machine(geofence=FENCE | {"latitude_deg": 91}), "geofence.latitude_deg", id="north of the pole"),
        pytest.param(machine(geofence=FENCE | {"radius_m": 0}), "geofence.radius_m", id="no radius"),
        pytest.param(machine(permitted_hours=[HOURS[0] | {"from": "24:00"}]), "permitted_hours.0.from", id="24:00"),
        pytest.param(
            machine(permitted_hours=[HOURS[0] | {"days": ["Monday"]}]), "permitted_hours.0.days.0", id="Monday"
        ),
        pytest.param(machine(tonage_t=1), "tonage_t", id="unknown field"),
    ],
)
async def test_what_does_not_fit_is_422_with_the_field_named(house: House, given: dict[str, Any], field: str) -> None:
    answer = await house.register(given)
    assert answer.status_code == 422
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert not FOREIGN_WORDS.search(answer.text)
    assert await house.counts() == {}
    assert house.told == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b'{"machine_id": "A", "tonnage_t": NaN}', id="NaN"),
        pytest.param(b'{"machine_id": "A", "tonnage_t": 20, "model": "\xff"}', id="not UTF-8"),
        pytest.param(b"[" * 10_000, id="10 000 levels"),
    ],
)
async def test_what_is_no_json_is_400(house: House, body: bytes) -> None:
    answer = await house.ask("POST", "/v1/machines", content=body)
    assert answer.status_code == 400
    assert await house.counts() == {}


async def test_a_number_beyond_a_double_does_not_fit(house: House) -> None:
    answer = await house.ask("POST", "/v1/machines", content=b'{"machine_id": "A", "tonnage_t": 1e999}')
    assert answer.status_code == 422


async def test_a_machine_is_bound_to_its_edition_for_good(house: House) -> None:
    await house.register(machine())
    answer = await house.register({"machine_id": MACHINE, "policy_edition": TEXT_EDITION, "model": "other"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "policy_edition"
    assert (await house.get(f"/v1/machines/{MACHINE}")).json()["model"] is None
    assert (await house.register({"machine_id": MACHINE, "policy_edition": REV1})).status_code == 200


async def test_an_array_is_settled_one_by_one(house: House) -> None:
    await house.register(machine("A"))
    answer = await house.register(
        machine("B"),
        machine("A", model="ZE215E"),
        machine("C", customer_phone="13800000000"),
        {"machine_id": "D"},
        machine("E", time_zone="Nowhere"),
        17,
        {"machine_id": "bad id"},
        machine("F"),
    )
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(8))
    assert [(result["machine_id"], result["status"]) for result in results] == [
        ("B", 201),
        ("A", 200),
        ("C", 422),
        ("D", 422),
        ("E", 422),
        (None, 422),
        (None, 422),
        ("F", 201),
    ]
    fields = [result["error"] and result["error"].split(":")[0] for result in results]
    assert fields == [None, None, "customer_phone", "tonnage_t", "time_zone", "body", "machine_id", None]
    assert await house.counts() == {"machine": 3, "command": 3, "outbox": 3}


async def test_half_a_surrogate_pair_stops_only_the_machine_that_has_it(house: House) -> None:
    answer = await house.register(machine("A"), machine("B", model="x\ud800"), machine("C"))
    assert answer.status_code == 207
    told = "model: holds half of a surrogate pair: it must be whole Unicode characters"
    assert [one["error"] for one in answer.json()["results"]] == [None, told, None]
    assert await house.counts() == {"machine": 2, "command": 2, "outbox": 2}


async def test_only_the_very_name_of_all_machines_is_reserved(house: House) -> None:
    for machine_id in ("Fleet", "fleet-1", "FLEET"):
        assert (await house.register(machine(machine_id))).status_code == 201


async def test_a_machine_named_twice_in_an_array_is_changed_in_order(house: House) -> None:
    answer = await house.register(
        machine("A", model="first"), machine("B"), {"machine_id": "A", "model": "second", "tonnage_t": 30}
    )
    assert [result["status"] for result in answer.json()["results"]] == [201, 201, 200]
    shown = (await house.get("/v1/machines/A")).json()
    assert (shown["model"], shown["tonnage_t"]) == ("second", 30.0)
    tonnages = [one.machine.tonnage_t for one in await _registrations(house) if one.machine.machine_id == "A"]
    assert tonnages == [21.5, 30.0]


@pytest.mark.parametrize(("number", "status"), [(1_000, 207), (1_001, 422)])
async def test_an_array_has_at_most_1000_machines(house: House, number: int, status: int) -> None:
    answer = await house.register(*(machine(f"M-{index}") for index in range(number)))
    assert answer.status_code == status
    assert (await house.counts()).get("machine", 0) == (1_000 if status == 207 else 0)


async def test_an_empty_array_registers_nothing(house: House) -> None:
    answer = await house.ask("POST", "/v1/machines", content=b"[]")
    assert (answer.status_code, answer.json()) == (207, {"results": []})
    assert await house.counts() == {}


async def test_two_who_register_the_same_machine_at_once(house: House, engine: AsyncEngine) -> None:
    """The second waits, and finds it known."""
    from asyncio import create_task, sleep

    from telemetry_svc.api.machine_fields import MachineFields
    from telemetry_svc.api.registration import Registered, register

    given = [MachineFields.model_validate(machine(model="first"))]
    async with engine.begin() as connection:
        [outcome] = await register(connection, house.desk, given)
        second = create_task(house.register({"machine_id": MACHINE, "tonnage_t": 21.5, "model": "second"}))
        await sleep(0.05)
        assert not second.done()
    assert isinstance(outcome, Registered)
    assert outcome.new
    answer = await second
    assert (answer.status_code, answer.json()["model"]) == (200, "second")
    assert await house.counts() == {"machine": 1, "command": 1, "outbox": 1}


async def _contacts(house: House) -> Contacts:
    async with house.engine.connect() as connection:
        found = (await contacts.load_for_change(connection, house.keyring, [MachineId(MACHINE)])).opened
    return found.get(MachineId(MACHINE), {})


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        pytest.param({}, {}, {}, id="none"),
        pytest.param(
            {"customer_name": "李女士", "customer_phone": PHONE}, {}, {0: Contact("李女士", PHONE)}, id="kept"
        ),
        pytest.param(
            {"customer_name": "李女士", "customer_phone": PHONE},
            {"customer_phone": OTHER_PHONE},
            {0: Contact("李女士", OTHER_PHONE)},
            id="another number of the same customer",
        ),
        pytest.param(
            {"customer_name": "李女士", "customer_phone": PHONE},
            {"customer_phone": None},
            {0: Contact("李女士")},
            id="the number is cleared",
        ),
        pytest.param(
            {"customer_name": "李女士", "customer_phone": PHONE},
            {"customer_name": None, "customer_phone": None},
            {},
            id="the customer is cleared",
        ),
        pytest.param(
            {"customer_phone": PHONE, "contacts": [{"phone": OTHER_PHONE, "role": "site", "language": "zh-CN"}]},
            {"contacts": [{"phone": "+4930123456"}]},
            {0: Contact(phone=PHONE), 1: Contact(phone="+4930123456")},
            id="other contacts beside the same customer",
        ),
        pytest.param(
            {"customer_phone": PHONE, "contacts": [{"phone": OTHER_PHONE}]},
            {"contacts": None},
            {0: Contact(phone=PHONE)},
            id="the other contacts are cleared",
        ),
        pytest.param(
            {"contacts": [{"phone": PHONE}, {"phone": OTHER_PHONE}]},
            {"customer_phone": "+4930123456"},
            {0: Contact(phone="+4930123456"), 1: Contact(phone=PHONE), 2: Contact(phone=OTHER_PHONE)},
            id="the customer comes first",
        ),
    ],
)
async def test_contacts(
    house: House, first: dict[str, Any], then: dict[str, Any], expected: dict[int, Contact]
) -> None:
    await house.register(machine(**first))
    told = len(house.told)
    before = await _contacts(house)
    await house.register({"machine_id": MACHINE, **then})
    assert await _contacts(house) == expected
    assert len(house.told) - told == (before != expected)
    assert len(await _registrations(house)) == 1


async def test_ops_may_not_be_a_device(house: House) -> None:
    answer = await house.ask("POST", "/v1/machines", role=Role.DEVICE, content=json.dumps(machine()))
    assert answer.status_code == 403
    assert await house.counts() == {}
