"""Who asks: good keys, bad keys, and how soon a revoked one is out."""

import pytest
from msgspec.structs import replace

from telemetry_svc.store.keys import Role
from telemetry_svc.telemetry import MachineId
from telemetry_svc.web.auth import REMEMBERED_KEYS, REMEMBERED_S, Authenticator
from telemetry_svc.web.problems import Problem
from tests.web.doubles import NOON, KeysInMemory, StillClock


@pytest.fixture
def keys() -> KeysInMemory:
    return KeysInMemory()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def authenticator(keys: KeysInMemory, clock: StillClock) -> Authenticator:
    return Authenticator(keys.find, clock)


async def test_a_good_key_is_known_with_all_it_is_bound_to(keys: KeysInMemory, authenticator: Authenticator) -> None:
    key = keys.add(Role.DEVICE, ["ZE215-000017"])
    principal = await authenticator.principal(f"Bearer {key}")
    assert principal.name == f"device:{key.split('_')[1]}"
    assert principal.may_speak_for(MachineId("ZE215-000017"))
    assert not principal.may_speak_for(MachineId("ZE215-000018"))


async def test_a_key_for_all_machines_speaks_for_any(keys: KeysInMemory, authenticator: Authenticator) -> None:
    principal = await authenticator.principal(f"bearer  {keys.add(Role.ADMIN)}")
    assert principal.may_speak_for(MachineId("anything"))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("Basic dXNlcjpwYXNz", id="other scheme"),
        pytest.param("Bearer", id="no key"),
        pytest.param("Bearer tsk_0000000000000001", id="no secret"),
        pytest.param("Bearer tsk_0000000000000001_" + "0" * 42 + "2", id="wrong secret"),
        pytest.param("Bearer tsk_0000000000000009_" + "0" * 42 + "1", id="unknown id"),
        pytest.param("Bearer tsk_0000000000000001_" + "0" * 42 + "1x", id="too long"),
        pytest.param("Bearer tsk_0000000000000001_" + "0" * 42 + "\n", id="line break"),
    ],
)
async def test_what_is_no_good_key_is_401(keys: KeysInMemory, authenticator: Authenticator, header: str | None) -> None:
    keys.add(Role.ADMIN)
    with pytest.raises(Problem) as caught:
        await authenticator.principal(header)
    assert caught.value.status_code == 401
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "tsk_0" not in caught.value.detail


async def test_a_good_key_is_looked_up_once_in_a_few_seconds(
    keys: KeysInMemory, clock: StillClock, authenticator: Authenticator
) -> None:
    header = f"Bearer {keys.add(Role.OPS)}"
    for _ in range(3):
        await authenticator.principal(header)
    assert keys.asked == 1
    clock.move(REMEMBERED_S)
    await authenticator.principal(header)
    assert keys.asked == 2


async def test_a_revoked_key_is_out_within_seconds(
    keys: KeysInMemory, clock: StillClock, authenticator: Authenticator
) -> None:
    key = keys.add(Role.OPS)
    await authenticator.principal(f"Bearer {key}")
    key_id = key.split("_")[1]
    keys.records[key_id] = replace(keys.records[key_id], revoked_at=NOON)
    clock.move(REMEMBERED_S)
    with pytest.raises(Problem, match="good key"):
        await authenticator.principal(f"Bearer {key}")
    assert REMEMBERED_S <= 5


async def test_a_remembered_key_still_needs_its_secret(keys: KeysInMemory, authenticator: Authenticator) -> None:
    key = keys.add(Role.OPS)
    await authenticator.principal(f"Bearer {key}")
    with pytest.raises(Problem, match="good key"):
        await authenticator.principal(f"Bearer {key[:-1]}9")
    assert keys.asked == 1


async def test_guesses_are_not_remembered(keys: KeysInMemory, authenticator: Authenticator) -> None:
    guess = "Bearer tsk_00000000000000ff_" + "0" * 43
    for _ in range(2):
        with pytest.raises(Problem):
            await authenticator.principal(guess)
    assert keys.asked == 2


async def test_the_memory_of_keys_is_bounded(
    keys: KeysInMemory, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry_svc.web.auth.REMEMBERED_KEYS", 2)
    headers = [f"Bearer {keys.add(Role.OPS)}" for _ in range(3)]
    for header in headers:
        await authenticator.principal(header)
    await authenticator.principal(headers[2])
    assert keys.asked == 3
    await authenticator.principal(headers[0])
    assert keys.asked == 4
    assert REMEMBERED_KEYS <= 10_000
