"""Keys on the real table: made once, found by id, revoked, and never stored as they are."""

import hashlib

import pytest
from sqlalchemy import text

from telemetry_svc.store import keys
from telemetry_svc.store.keys import BadBindingError, KeyBinding, Role, split_key
from telemetry_svc.telemetry import MachineId
from tests.api.house import House

A = MachineId("A")


async def test_only_the_hash_of_the_secret_is_stored(house: House) -> None:
    async with house.engine.begin() as connection:
        key = await keys.create(connection, KeyBinding(Role.DEVICE, machine_ids=(A,)))
        row = (await connection.execute(text("SELECT api_key::text, secret_sha256 FROM api_key"))).one()
    _, key_id, secret = key.split("_", 2)
    assert secret not in row[0]
    assert row[1] == hashlib.sha256(secret.encode()).digest()
    assert split_key(key) == (key_id, row[1])


async def test_a_key_is_found_with_its_binding_and_revoked_once(house: House) -> None:
    async with house.engine.begin() as connection:
        key = await keys.create(connection, KeyBinding(Role.CALL_CENTER, expert_id="EXP-007"))
        key_id = key.split("_")[1]
        record = await keys.find(connection, key_id)
        assert record is not None
        assert (record.role, record.machine_ids, record.expert_id) == (Role.CALL_CENTER, None, "EXP-007")
        assert record.revoked_at is None
        assert await keys.revoke(connection, key_id) is True
        assert await keys.revoke(connection, key_id) is False
        assert await keys.revoke(connection, "0" * 16) is False
        [listed] = await keys.list_all(connection)
        assert listed.revoked_at is not None
        assert await keys.list_all(connection, [Role.ADMIN]) == []
        assert await keys.find(connection, "0" * 16) is None


async def test_a_device_key_speaks_for_its_machines(house: House) -> None:
    async with house.engine.begin() as connection:
        key = await keys.create(connection, KeyBinding(Role.DEVICE, machine_ids=(A, A, MachineId("B"))))
        record = await keys.find(connection, key.split("_")[1])
    assert record is not None
    assert record.machine_ids == frozenset({A, MachineId("B")})


@pytest.mark.parametrize(
    "binding",
    [
        pytest.param(KeyBinding(Role.DEVICE), id="a device without machines"),
        pytest.param(KeyBinding(Role.DEVICE, machine_ids=(A,), all_machines=True), id="some and all"),
        pytest.param(KeyBinding(Role.DEVICE, machine_ids=(A,), expert_id="E"), id="a device for an expert"),
        pytest.param(KeyBinding(Role.OPS, machine_ids=(A,)), id="ops with machines"),
        pytest.param(KeyBinding(Role.ADMIN, all_machines=True), id="admin with all machines said"),
        pytest.param(KeyBinding(Role.OPS, expert_id="E"), id="ops for an expert"),
    ],
)
async def test_bindings_that_make_no_sense(house: House, binding: KeyBinding) -> None:
    async with house.engine.begin() as connection:
        with pytest.raises(BadBindingError):
            await keys.create(connection, binding)
        assert await keys.list_all(connection) == []


async def test_a_revoked_key_is_401_within_seconds(house: House) -> None:
    assert (await house.get("/v1/machines")).status_code == 200
    key_id = (await house.key(Role.OPS)).split("_")[1]
    async with house.engine.begin() as connection:
        await keys.revoke(connection, key_id)
    house.clock.move(3)
    assert (await house.get("/v1/machines")).status_code == 401
