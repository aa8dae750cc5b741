"""`machines import`: good rows go in, each bad one is named by its line and reason, unknown columns are named."""

import json
from pathlib import Path

import pytest

from telemetry_svc.api.csv_file import BadFileError, BadRow
from telemetry_svc.api.machines_csv import ImportReport, import_machines
from telemetry_svc.codec import command as codec
from telemetry_svc.store import contacts
from telemetry_svc.store.contacts import Contact
from telemetry_svc.telemetry import MachineId, Registration
from tests.api.house import House, machine
from tests.web.doubles import NOON

HEADER = "machine_id,tonnage_t"


async def _import(house: House, tmp_path: Path, content: str | bytes, *, quiet: bool = False) -> ImportReport:
    path = tmp_path / "machines.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return await import_machines(path, house.engine, house.desk, quiet=quiet)


async def test_every_column(house: House, tmp_path: Path) -> None:
    fence = '"{""latitude_deg"": 28.2, ""longitude_deg"": 112.9, ""radius_m"": 800}"'
    hours = '"[{""days"": [""mon""], ""from"": ""06:00"", ""to"": ""22:00""}]"'
    columns = (
        "machine_id,tonnage_t,model,delivered_on,time_zone,policy_edition,initial_hours_h,status,device_ids,"
        "expert_id,team_id,customer_id,customer_name,customer_phone,geofence,permitted_hours"
    )
    row = (
        "ZE215-000017, 21.5 ,ZE215E,2026-01-31,UTC,zoomlion-2011,249.99,stored,a; b,"
        f"EXP-007,TEAM,CUST-42,李女士,+8613800000000,{fence},{hours}"
    )
    report = await _import(house, tmp_path, f"{columns}\r\n{row}\r\n")
    assert report == ImportReport(new=1, known=0, bad=(), unknown_columns=())
    shown = (await house.get("/v1/machines/ZE215-000017")).json()
    assert (shown["tonnage_t"], shown["initial_hours_h"], shown["device_ids"]) == (21.5, 249.99, ["a", "b"])
    assert shown["geofence"]["radius_m"] == 800
    assert shown["permitted_hours"] == [{"days": ["mon"], "from": "06:00", "to": "22:00"}]
    async with house.engine.connect() as connection:
        opened = (await contacts.load_for_change(connection, house.keyring, [MachineId("ZE215-000017")])).opened
    assert opened == {"ZE215-000017": {0: Contact("李女士", "+8613800000000")}}


async def test_good_rows_go_in_and_bad_ones_are_named_by_line(house: House, tmp_path: Path) -> None:
    content = "\n".join(
        [
            "machine_id,tonnage_t,customer_phone,model",
            "A,21.5,,",
            "B,heavy,,",
            "",
            "C,21.5,13800000000,",
            'D,21.5,,"two',
            'lines"',
            "E,21.5",
            "F,,,",
            "A,22,,second",
            "G,21.5,+8613800000000,",
            "fleet,21.5,,",
            'H,21.5,,"never closed',
        ]
    )
    report = await _import(house, tmp_path, content)
    assert (report.new, report.known, report.unknown_columns) == (2, 1, ())
    assert {row.line: row.reason.split(":")[0] for row in report.bad} == {
        3: "tonnage_t",
        5: "customer_phone",
        6: "model",
        8: "has 2 cells, the header has 4",
        9: "tonnage_t",
        12: "machine_id",
        13: "cannot be read as CSV",
    }
    assert "13800000000" not in str(report)
    assert (await house.get("/v1/machines/A")).json()["model"] == "second"
    assert await house.counts() == {"machine": 2, "contact": 1, "command": 3, "outbox": 3}


async def test_unknown_columns_are_named_and_left_out(house: House, tmp_path: Path) -> None:
    report = await _import(house, tmp_path, "machine_id,hour_meter_h,tonnage_t,,contacts\nA,7915.7,21.5,x,y\n")
    assert report.unknown_columns == ("hour_meter_h", "", "contacts")
    assert (report.new, report.bad) == (1, ())


async def test_an_empty_cell_is_absent_and_clears_nothing(house: House, tmp_path: Path) -> None:
    await house.register(machine("A", model="ZE215E", customer_phone="+8613800000000"))
    report = await _import(house, tmp_path, "machine_id,tonnage_t,model,customer_phone\nA,,,\n")
    assert (report.known, report.bad) == (1, ())
    assert (await house.get("/v1/machines/A")).json()["model"] == "ZE215E"
    assert (await house.counts())["contact"] == 1


@pytest.mark.parametrize("quiet", [True, False])
async def test_quiet_is_told_to_the_rules(house: House, tmp_path: Path, quiet: bool) -> None:
    await _import(house, tmp_path, f"{HEADER}\nA,21.5\n", quiet=quiet)
    [(_, _, value)] = await house.commands()
    command = codec.decode(json.dumps(value).encode(), NOON)
    assert isinstance(command, Registration)
    assert command.quiet is quiet


async def test_the_same_file_twice_changes_nothing(house: House, tmp_path: Path) -> None:
    content = f"{HEADER}\n" + "".join(f"M-{number},21.5\n" for number in range(1_201))
    assert (await _import(house, tmp_path, content)).new == 1_201
    before = await house.counts()
    report = await _import(house, tmp_path, content)
    assert (report.new, report.known) == (0, 1_201)
    assert await house.counts() == before


@pytest.mark.parametrize("cell", ["nan", "inf", "1e3", "1_000", "0x10", "\uff11\uff12"])
async def test_what_is_no_number(house: House, tmp_path: Path, cell: str) -> None:
    report = await _import(house, tmp_path, f"{HEADER}\nA,{cell}\n")
    assert report.bad == (BadRow(2, "tonnage_t: not a number like 21.5"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "machine_id", id="empty"),
        pytest.param(b"id,tonnage_t\nA,21.5\n", "machine_id", id="no id column"),
        pytest.param(b"machine_id,tonnage_t,tonnage_t\nA,1,2\n", "tonnage_t twice", id="a column twice"),
        pytest.param("machine_id,型号\nA,挖掘机\n".encode("gb18030"), "not UTF-8", id="GB 18030"),
    ],
)
async def test_a_file_that_is_no_good_as_a_whole(house: House, tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadFileError, match=message):
        await _import(house, tmp_path, content)
    assert await house.counts() == {}


async def test_a_row_that_is_not_utf8_costs_no_other(house: House, tmp_path: Path) -> None:
    report = await _import(house, tmp_path, f"{HEADER}\nA,21.5\n".encode() + b"B\xff,21.5\nC,21.5\n")
    assert (report.new, [(row.line, row.reason) for row in report.bad]) == (2, [(3, "is not UTF-8")])


async def test_a_byte_order_mark_is_no_part_of_the_header(house: House, tmp_path: Path) -> None:
    report = await _import(house, tmp_path, b"\xef\xbb\xbf" + f"{HEADER}\nA,21.5\n".encode())
    assert (report.new, report.bad, report.unknown_columns) == (1, (), ())


async def test_a_file_that_is_not_there(house: House, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="No such file"):
        await import_machines(tmp_path / "nothing.csv", house.engine, house.desk, quiet=False)
