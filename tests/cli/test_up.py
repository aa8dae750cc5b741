"""One running `up`, and everything that a stranger does beside it in the same data directory, without a setting."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from telemetry_svc import topics
from telemetry_svc.stream.topics import PARTITIONS
from tests.cli.conftest import RunningUp
from tests.cli.programs import Cli, Finished, is_ready, until
from tests.stream.altering import altered
from tests.web.doubles import bearer

pytestmark = pytest.mark.embedded

Beside = Callable[..., Finished]


@pytest.fixture(scope="module")
def beside(cli: Cli, up: RunningUp) -> Beside:
    """Commands in the data directory of the running `up`."""

    def run(*argv: object, **settings: Any) -> Finished:
        return cli(*argv, data_dir=up.home / "data", **settings)

    return run


@contextmanager
def asking(up: RunningUp, key: str | None = None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=up.address, headers=bearer(key or up.key), timeout=30) as client:
        yield client


def test_it_says_where_to_look_and_is_there(up: RunningUp) -> None:
    assert up.program.out.startswith("telemetry-svc is up\n")
    assert f"  data        {up.home / 'data'}\n" in up.program.out
    assert up.address.startswith("http://127.0.0.1:")
    with asking(up) as client:
        until(lambda: is_ready(client))
        assert client.get("/v1/machines").json() == {"items": [], "next_cursor": None}
        assert client.get("/openapi.json").json()["info"]["title"]
        assert "# TYPE" in client.get("/metrics").text


def test_its_log_tells_of_no_trouble(up: RunningUp) -> None:
    with asking(up) as client:
        until(lambda: is_ready(client))
    lines = [json.loads(line) for line in up.program.err.splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] not in {"debug", "info"}] == []
    assert "Traceback" not in up.program.err


def test_a_second_one_on_the_same_directory_names_the_first(cli: Cli, up: RunningUp) -> None:
    refusal = cli("up", data_dir=up.home / "data").refusal
    assert f"process {up.program.pid} at {up.address}" in refusal
    assert str(up.home / "data") in refusal
    with asking(up) as client:
        assert client.get("/livez").status_code == 200


def test_a_new_key_is_the_last_line_and_opens_what_its_role_may(beside: Beside, up: RunningUp) -> None:
    made = beside("keys", "create", "--role", "ops")
    assert (made.code, made.err) == (0, "")
    key = made.out.splitlines()[-1]
    with asking(up, key) as client:
        assert client.get("/v1/machines").status_code == 200
        assert client.post("/v1/pings", json=[]).status_code == 403
        listed = beside("keys", "list")
        key_id, secret = key.split("_")[1:3]
        [line] = [line for line in listed.out.splitlines() if line.startswith(key_id)]
        assert line.split()[1:] == ["ops", "good"]
        assert secret not in listed.out
        assert beside("keys", "revoke", key_id) == (0, f"{key_id} is revoked\n", "")
        until(lambda: client.get("/v1/machines").status_code == 401)
    assert beside("keys", "revoke", key_id) == (1, "", f"no good key has the id {key_id}\n")
    assert re.search(rf"^{key_id} +ops +revoked \d{{4}}-\d\d-\d\d", beside("keys", "list").out, re.MULTILINE)


def test_a_devices_key_speaks_for_its_machines(beside: Beside, up: RunningUp) -> None:
    made = beside("keys", "create", "--role", "device", "--machine", "A-1", "--machine", "A-2")
    ping = {"recorded_at": "2026-11-20T04:20:31Z", "hour_meter_h": 1}
    with asking(up, made.out.splitlines()[-1]) as client:
        statuses = [
            client.post("/v1/pings", json=[ping | {"machine_id": machine_id}]).status_code
            for machine_id in ("A-1", "A-2", "A-3")
        ]
    assert statuses == [202, 202, 403]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--role device", "--all-machines"),
        ("--role device --machine A --all-machines", "--all-machines"),
        ("--role ops --machine A", "ops"),
        ("--role ops --expert EXP-7", "ops"),
        ("--role device --machine A/1", "--machine 'A/1'"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(beside: Beside, options: str, reason: str) -> None:
    before = beside("keys", "list").out
    assert reason in beside("keys", "create", *options.split()).refusal
    assert beside("keys", "list").out == before


MACHINES = """machine_id,tonnage_t,delivered_on,colour
CSV-1,21.5,2026-01-31,yellow
CSV-2,heavy,2026-01-31,yellow
CSV 3,21.5,,
CSV-4,21.5
CSV-5,7.5,,
"""
PINGS = """recorded_at,machine_id,hour_meter_h,engine_running,fuel_level_pct,latitude_deg,longitude_deg,faults,colour
2026-11-20T04:20:31Z,CSV-1,49.9,true,41,28.2,112.9,,red
2026-11-20T04:20:31Z,CSV-1,200001,,,,,,
yesterday,CSV-1,1,,,,,,
2026-11-20T05:20:31Z,CSV-5,50,FALSE,,,,"[{""spn"": 110, ""fmi"": 0}]",
2026-11-20T06:20:31Z,CSV-5,51
"""


def test_good_rows_go_in_and_bad_ones_are_named_with_their_line(beside: Beside, up: RunningUp, tmp_path: Path) -> None:
    machines, pings = tmp_path / "machines.csv", tmp_path / "pings.csv"
    machines.write_text(MACHINES)
    pings.write_text(PINGS)
    told = beside("machines", "import", machines)
    assert (told.code, told.out) == (1, "2 new, 0 known, 3 bad\n")
    first, *bad = told.err.splitlines()
    assert first == "left out: colour"
    assert [line.partition(": ")[0] for line in bad] == [f"{machines}:{number}" for number in (3, 4, 5)]
    assert "tonnage_t" in bad[0]

    told = beside("pings", "import", pings)
    assert (told.code, told.out) == (1, "2 sent, 3 bad\n")
    first, *bad = told.err.splitlines()
    assert first == "left out: colour"
    assert [line.partition(": ")[0] for line in bad] == [f"{pings}:{number}" for number in (3, 4, 6)]
    assert bad[2].endswith("has 3 cells, the header has 9")

    with asking(up) as client:

        def facts(machine_id: str) -> list[str]:
            alerts = client.get("/v1/alerts", params={"machine_id": machine_id}).json()["items"]
            return [alert["data"].get("stage") or alert["data"]["phase"] for alert in alerts]

        until(lambda: facts("CSV-1") == ["upcoming"] and facts("CSV-5") == ["due", "opened"])
        shown = client.get("/v1/machines/CSV-1").json()
        assert (shown["tonnage_t"], shown["delivered_on"]) == (21.5, "2026-01-31")
    assert beside("machines", "import", machines).out == "0 new, 2 known, 3 bad\n"


def test_migrating_again_changes_nothing(beside: Beside) -> None:
    for _ in range(2):
        assert beside("migrate") == (0, "database and topics are at the current version\n", "")


@pytest.mark.parametrize(
    ("topic", "setting", "value"),
    [
        ("excavator.pings", "cleanup.policy", "compact"),
        ("excavator.pings", "message.timestamp.type", "CreateTime"),
        ("excavator.commands", "retention.bytes", "1000000"),
        ("excavator.calls", "retention.ms", "3600000"),
        ("excavator.dead-letters", "max.message.bytes", "1048588"),
    ],
)
async def test_topics_that_would_lose_data_are_refused(
    beside: Beside, up: RunningUp, topic: str, setting: str, value: str
) -> None:
    async with altered(up.kafka, topic, {setting: value}):
        refusal = beside("migrate").refusal
    assert refusal.startswith(f"{topic}: {setting} ")
    assert ";" not in refusal, "one fault, one complaint"
    assert beside("migrate").code == 0


async def test_a_simulated_fleet_goes_in_and_none_of_it_is_a_stranger(beside: Beside, up: RunningUp) -> None:
    before = await _end_of(up, topics.DEAD_LETTERS)
    told = beside("simulate", "--machines", 3, "--hours", 6, "--seed", 5, "--late", 0, "--duplicates", 0)
    assert told.code == 0
    match = re.fullmatch(r"3 machines registered, (\d+) pings sent\n", told.out)
    assert match
    with asking(up) as client:

        def simulated() -> list[str]:
            machines = client.get("/v1/machines", params={"limit": 100}).json()["items"]
            return [one["machine_id"] for one in machines if one["machine_id"].startswith("SIM")]

        assert len(simulated()) == 3
        until(lambda: all(client.get(f"/v1/machines/{one}").json()["state"]["true_hours_h"] for one in simulated()))
    assert int(match[1]) > 3 * 6 * 2
    assert await _end_of(up, topics.DEAD_LETTERS) == before


async def _end_of(up: RunningUp, topic: str) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=up.kafka) as consumer:
        pairs = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return sum((await consumer.end_offsets(pairs)).values())


def test_another_api_may_stand_beside_it(cli: Cli, up: RunningUp) -> None:
    with cli.started("api", home=up.home) as api:
        address = api.says(r"^api serves (http://\S+)$")[1]
        assert address != up.address
        with httpx.Client(base_url=address, headers=bearer(up.key)) as client, asking(up) as first:
            assert client.get("/v1/machines").json() == first.get("/v1/machines").json()
            assert client.post("/v1/pings", json=[]).status_code == 404
        api.send(signal.SIGTERM)
        assert api.ends() == 0
