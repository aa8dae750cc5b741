"""How `up` begins and ends: with all it started, leaving all it was told, and never swallowing its first key."""

import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.store import contacts, machines
from telemetry_svc.store.contacts import Contact
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.telemetry import EditionId, Machine, MachineId
from tests.cli.programs import Cli, Program, is_ready, until
from tests.embedded.conftest import all_gone, is_alive
from tests.web.doubles import NOON, bearer

pytestmark = pytest.mark.embedded

MACHINE = "LIFE-1"


async def test_it_ends_with_its_children_and_goes_on_where_it_was(cli: Cli, home: Path) -> None:
    with cli.started("up", home=home) as first:
        key = first.says(r"^  admin key +(tsk_\S+)$")[1]
        with _client(first, key) as client:
            machine = {
                "machine_id": MACHINE,
                "tonnage_t": 21.5,
                "customer_name": "王工",
                "customer_phone": "+8613800000000",
            }
            assert client.post("/v1/machines", json=machine).status_code == 201
            assert client.post("/v1/pings", json=[_ping(49.99, "04")]).status_code == 202
            until(lambda: _stages(client) == ["upcoming"])
            children = first.descendants()
            assert len(children) > 2
            with client.stream("GET", "/v1/alerts/stream") as stream:
                assert stream.status_code == 200
                first.send(signal.SIGTERM)
                assert first.ends() == 0, "an open stream does not hold it up"
        assert await all_gone(children, within_s=5)
        assert "Traceback" not in first.err

    with cli.started("up", home=home) as second:
        second.says(r"^  HTTP")
        with _client(second, key) as client:
            until(lambda: is_ready(client))
            assert _stages(client) == ["upcoming"]
            assert client.post("/v1/pings", json=[_ping(49.99, "04"), _ping(50.0, "05")]).status_code == 202
            until(lambda: _stages(client) == ["upcoming", "due"])
            assert client.get(f"/v1/machines/{MACHINE}").json()["state"]["true_hours_h"] == 50.0
            until(lambda: client.get("/v1/calls").json()["items"][0]["reasons"][0]["stage"] == "due")
            claim = client.post("/v1/calls/claim", json={"expert_id": "EXP-7"})
            assert claim.json()["tasks"][0]["customer"] == {"name": "王工", "phone": "+8613800000000"}
        children = second.descendants()
        second.send(signal.SIGINT)
        assert second.ends() == 0
        assert await all_gone(children, within_s=5)
        assert "admin key" not in second.out
        assert "Traceback" not in second.err


@pytest.mark.parametrize(("command", "number"), [("up", signal.SIGTERM), ("demo", signal.SIGINT)])
async def test_stopped_while_it_starts_it_leaves_nothing(
    cli: Cli, home: Path, command: str, number: signal.Signals
) -> None:
    """Who has thought better of it does not wait until 100 MB are fetched."""
    with cli.started(command, home=home) as starting:
        until(lambda: "making a PostgreSQL cluster" in starting.err)
        starting.send(number)
        assert starting.ends() == 0
        assert starting.out == ""
        assert "Traceback" not in starting.err
        assert await all_gone(_servers_in(home), within_s=5)


def _servers_in(home: Path) -> tuple[int, ...]:
    """Processes whose command names the folder."""
    listed = subprocess.run(["/usr/bin/env", "ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()[1:]]
    return tuple(int(pid) for pid, args in lines if str(home) in args and is_alive(int(pid)))


@pytest.fixture
def elsewhere(database_url: str, kafka_bootstrap: str, clean_database: None, clean_topics: None) -> dict[str, Any]:
    """Settings of the servers of this run, so that `up` starts none."""
    return {
        "database_url": database_url,
        "kafka_bootstrap": kafka_bootstrap,
        "personal_data_keys": new_keyring_text(),
        "topic_replication": 1,
    }


async def test_a_start_that_is_refused_makes_no_key_that_nobody_sees(
    cli: Cli, home: Path, elsewhere: dict[str, Any], engine: AsyncEngine
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = cli("up", http_port=port, data_dir=home / "data", **elsewhere).refusal
    assert refusal.startswith(f"cannot listen on 127.0.0.1:{port} ")
    assert "TELEMETRY_HTTP_PORT" in refusal
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM api_key")) == 0
    with cli.started("up", home=home, **elsewhere) as up:
        key = up.says(r"^  admin key +(tsk_\S+)$")[1]
        with _client(up, key) as client:
            assert client.get("/v1/machines").status_code == 200


async def test_a_new_keyring_over_names_that_another_has_sealed_is_refused(
    cli: Cli, home: Path, elsewhere: dict[str, Any], engine: AsyncEngine
) -> None:
    """Each start would else take the keyring of the one before for the right one, and no name could be read again."""
    theirs = elsewhere.pop("personal_data_keys")
    async with engine.begin() as connection:
        [machine] = [MachineRow(Machine(MachineId(MACHINE), 21.5, EditionId("zoomlion-2011")), NOON, NOON)]
        await machines.insert_new(connection, [machine])
        await contacts.replace(connection, Keyring.parse(theirs), {MachineId(MACHINE): {0: Contact("王工")}})
    keyring = home / "data" / "personal-data.keys"
    for _ in range(2):
        refusal = cli("up", data_dir=home / "data", **elsewhere).refusal
        assert refusal == (
            "TELEMETRY_PERSONAL_DATA_KEYS (unset: the file personal-data.keys in TELEMETRY_DATA_DIR): "
            f"the database holds sealed names, and {keyring} is gone: put it back, or set the keyring"
        )
        assert not keyring.exists()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM api_key")) == 0
    keyring.write_text(theirs)
    with cli.started("up", home=home, **elsewhere) as up:
        up.says(r"^  admin key +(tsk_\S+)$")
        up.send(signal.SIGTERM)
        assert up.ends() == 0
    assert keyring.read_text() == theirs


async def test_where_no_name_is_sealed_a_new_keyring_is_made(cli: Cli, home: Path, elsewhere: dict[str, Any]) -> None:
    del elsewhere["personal_data_keys"]
    with cli.started("up", home=home, **elsewhere) as up:
        up.says(r"^  admin key +(tsk_\S+)$")
        up.send(signal.SIGTERM)
        assert up.ends() == 0
    Keyring.parse((home / "data" / "personal-data.keys").read_text())


def test_without_a_key_it_listens_on_loopback_only(cli: Cli, home: Path, elsewhere: dict[str, Any]) -> None:
    """Whoever could reach it first would else find a service that nobody has secured; later the setting counts."""
    for expected in ("http://127.0.0.1:", "http://0.0.0.0:"):
        with cli.started("up", home=home, http_host="0.0.0.0", **elsewhere) as up:
            assert up.says(r"^  HTTP +(http://\S+)")[1].startswith(expected)
            up.send(signal.SIGTERM)
            assert up.ends() == 0


def _client(up: Program, key: str) -> httpx.Client:
    address = up.says(r"^  HTTP +(http://\S+)")[1]
    return httpx.Client(base_url=address, headers=bearer(key), timeout=30)


def _ping(hours_h: float, hour: str) -> dict[str, object]:
    return {"machine_id": MACHINE, "recorded_at": f"2026-11-20T{hour}:20:31Z", "hour_meter_h": hours_h}


def _stages(client: httpx.Client) -> list[str]:
    return [alert["data"]["stage"] for alert in client.get("/v1/alerts").json()["items"]]
