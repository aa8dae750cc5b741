"""Marker names and numbers go in by every way; the only places that show them are the audited ones."""

import json
import logging
from pathlib import Path

import pytest
from sqlalchemy import select, text

from telemetry_svc.api.machines_csv import import_machines
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.store import contacts
from telemetry_svc.store.contacts import Contact, Reader
from telemetry_svc.store.schema import metadata
from telemetry_svc.store.schema.registry import contact, personal_access
from telemetry_svc.telemetry import MachineId
from tests.api.house import MACHINE, House, machine

NAME, PHONE, SITE_NAME, SITE_PHONE = "标记女士", "+8613911112222", "Marker Mustermann", "+4930998877"
MARKERS = (NAME, PHONE, PHONE[1:], SITE_NAME, SITE_PHONE, SITE_PHONE[1:], json.dumps(NAME)[1:-1])
GIVEN = machine(
    customer_name=NAME, customer_phone=PHONE, contacts=[{"name": SITE_NAME, "phone": SITE_PHONE, "role": "site"}]
)
READER = Reader("call_center:0123", "claim of a task")


async def _whole_database(house: House) -> str:
    """Every row of every table as text, binary columns as the letters in them."""
    found: list[str] = []
    async with house.engine.connect() as connection:
        for table in metadata.sorted_tables:
            for row in await connection.execute(select(table)):
                found += [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(found)


def _shown(text_: str) -> list[str]:
    return [marker for marker in MARKERS if marker in text_]


async def test_markers_are_nowhere_but_in_the_audited_reading(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "machines.csv"
    path.write_text(
        f"machine_id,tonnage_t,customer_name,customer_phone\nCSV-1,21.5,{NAME},{PHONE}\nCSV-2,x,,{PHONE}x\n"
    )
    answers = [
        await house.register(GIVEN),
        await house.register(GIVEN),
        await house.register(GIVEN, GIVEN | {"customer_phone": f"{PHONE}x"}, GIVEN | {"tonnage_t": PHONE}),
        await house.register(GIVEN | {"customer_phone": f"tel:{PHONE}"}),
        await house.register(GIVEN | {"customer_name": f"{NAME}\x00"}),
        await house.register({"machine_id": PHONE, "tonnage_t": NAME}),
        await house.get(f"/v1/machines/{MACHINE}"),
        await house.get("/v1/machines"),
        await house.get(f"/v1/machines/{PHONE}"),
        await house.get("/metrics"),
        await house.get("/openapi.json"),
    ]
    report = await import_machines(path, house.engine, house.desk, quiet=False)
    assert [_shown(answer.text) for answer in answers] == [[]] * len(answers)
    assert _shown(str(report)) == []
    assert _shown(await _whole_database(house)) == []
    ours = [str(record.__dict__) for record in caplog.records if record.name != "httpx"]  # the test's own client
    assert _shown("".join([*ours, *capsys.readouterr()])) == []
    assert (await house.counts())["contact"] == 3

    async with house.engine.begin() as connection:
        opened = await contacts.open_for(connection, house.keyring, [MachineId(MACHINE)], READER)
    assert opened == {MACHINE: [Contact(NAME, PHONE), Contact(SITE_NAME, SITE_PHONE, "site")]}
    assert _shown(repr(opened)) == []


async def test_each_reading_leaves_one_line_for_each_machine(house: House) -> None:
    await house.register(GIVEN, machine("NOBODY-TO-CALL"), GIVEN | {"machine_id": "OTHER"})
    ids = [MachineId(MACHINE), MachineId("NOBODY-TO-CALL"), MachineId("UNKNOWN")]
    async with house.engine.begin() as connection:
        assert (await connection.execute(select(personal_access))).all() == []
        opened = await contacts.open_for(connection, house.keyring, ids, READER)
        rows = (await connection.execute(select(personal_access))).all()
    assert opened.keys() == {MACHINE}
    assert [(row.who, row.machine_id, row.why) for row in rows] == [(READER.who, MACHINE, READER.why)]


async def test_who_can_be_called_is_known_without_opening_anything(house: House) -> None:
    named = {"customer_name": NAME}
    await house.register(GIVEN, machine("NAME-ONLY", **named), machine("NONE"))
    ids = [MachineId(name) for name in (MACHINE, "NAME-ONLY", "NONE", "UNKNOWN")]
    async with house.engine.connect() as connection:
        assert await contacts.callable_machines(connection, ids) == {MACHINE}
        assert await contacts.callable_machines(connection, []) == frozenset()


async def test_equal_numbers_have_equal_indexes(house: House) -> None:
    await house.register(GIVEN, machine("B", customer_phone=PHONE), machine("C", customer_phone=SITE_PHONE))
    async with house.engine.connect() as connection:
        rows = (await connection.execute(select(contact).order_by(contact.c.machine_id, contact.c.ordinal))).all()
    indexes = [(row.machine_id, row.phone_index) for row in rows]
    assert [machine_id for machine_id, _ in indexes] == ["B", "C", MACHINE, MACHINE]
    assert indexes[0][1] == indexes[2][1] == house.keyring.blind_index(PHONE)
    assert indexes[1][1] == indexes[3][1] != indexes[0][1]
    assert len({row.sealed for row in rows}) == 4


async def test_a_row_copied_to_another_machine_does_not_open(house: House) -> None:
    await house.register(GIVEN, machine("B"))
    async with house.engine.begin() as connection:
        copy = "INSERT INTO contact SELECT 'B', ordinal, key_id, sealed, phone_index FROM contact"
        await connection.execute(text(copy))
        stored = await contacts.load_for_change(connection, house.keyring, [MachineId("B"), MachineId(MACHINE)])
    assert (set(stored.opened), stored.closed) == ({MachineId(MACHINE)}, {MachineId("B")})


async def test_without_the_key_nothing_opens(house: House) -> None:
    await house.register(GIVEN)
    async with house.engine.begin() as connection:
        another = Keyring.parse(new_keyring_text())
        stored = await contacts.load_for_change(connection, another, [MachineId(MACHINE)])
        assert (stored.opened, stored.closed) == ({}, {MACHINE})
        opened = await contacts.open_for(connection, another, [MachineId(MACHINE)], READER)
        assert not any(opened.values())


async def test_contacts_that_do_not_open_are_changed_only_as_a_whole_and_stop_nobody(house: House) -> None:
    """Their keyring is gone: what cannot be read cannot be kept beside what is new, and is not thrown away unasked."""
    await house.register(GIVEN)
    async with house.engine.begin() as connection:
        gone = Keyring.parse(new_keyring_text())
        await contacts.replace(connection, gone, {MachineId(MACHINE): {0: Contact(NAME, PHONE)}})
    half = {"machine_id": MACHINE, "customer_phone": PHONE}
    refused = await house.register(half)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "customer_phone")
    assert not _shown(refused.text)
    several = await house.register(half, machine("B", customer_phone=PHONE), {"machine_id": MACHINE, "model": "ZE215E"})
    assert [one["status"] for one in several.json()["results"]] == [422, 201, 200]
    async with house.engine.connect() as connection:
        kept = await contacts.load_for_change(connection, gone, [MachineId(MACHINE)])
    assert kept.opened == {MACHINE: {0: Contact(NAME, PHONE)}}

    whole = half | {"customer_name": NAME, "contacts": []}
    assert (await house.register(whole)).status_code == 200
    async with house.engine.connect() as connection:
        stored = await contacts.load_for_change(connection, house.keyring, [MachineId(MACHINE)])
    assert stored.opened == {MACHINE: {0: Contact(NAME, PHONE)}}
