"""`GET /v1/alerts/{id}/why`: every kind of fact told in both languages, from what was stored when it was decided."""
# ruff: noqa: RUF001 - Chinese punctuation

from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from telemetry_svc.events import Event
from telemetry_svc.rules import encode_state, inspections
from telemetry_svc.store.keys import Role
from telemetry_svc.store.raising import raise_events
from telemetry_svc.store.states import StateRow, save_states
from telemetry_svc.telemetry import Fault, Lamp, Sensors
from tests.api.house import House
from tests.policies.test_reasons import everything
from tests.rules.machines import MACHINE_ID, REV1, TEXT_EDITION, Run, machine, policy, reading, utc, word
from tests.web.doubles import bearer, client_of

AT = utc("2026-11-22 04:20:31")
RUNNING_HOT = Sensors(coolant_temperature_c=105.01)


async def store(house: House, run: Run, *, by_replay: bool = False) -> None:
    """What ingest (or a replay) would have written of a life."""
    async with house.engine.begin() as connection:
        await raise_events(connection, run.events, by_replay=by_replay)
        await save_states(connection, [StateRow(MACHINE_ID, 0, None, encode_state(run.state))], new=True)


async def why(house: House, event: Event, language: str = "en") -> dict[str, Any]:
    answer = await house.get(f"/v1/alerts/{event.id}/why", language=language)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_milestone_as_fields_and_as_a_story(house: House) -> None:
    run = Run(machine(initial_h=60))
    run.read(reading(AT, 250.3))
    due = run.one("inspection 250 due")
    await store(house, run)
    told = await why(house, due)
    noticed_at = datetime.fromisoformat(told.pop("noticed_at"))
    assert datetime.now(UTC) - noticed_at < timedelta(minutes=5)
    sentence = policy().clause("I1")
    assert sentence is not None
    lines = told.pop("story").splitlines()
    assert told == {
        "id": str(due.id),
        "machine_id": MACHINE_ID,
        "language": "en",
        "what": "The inspection at 250 h is due, as of 2026-11-22 04:20:31 UTC.",
        "became_true_at": "2026-11-22T04:20:31Z",
        "by_replay": False,
        "rule": "inspection",
        "rule_version": inspections.VERSION,
        "service_version": version("telemetry-svc"),
        "severity": None,
        "readings": [{"recorded_at": "2026-11-22T04:20:31Z", "values": {"hour_meter_h": 250.3, "true_hours_h": 250.3}}],
        "clauses": [{"clause": "I1", "sentence": sentence.sentence_en}],
        "edition": {"edition": REV1, "digest": policy().digest, "is_todays": True},
        "meaning": None,
        "advice": None,
        "free_of_charge": True,
        "free": "Labour and mileage of this inspection are free of charge (I2); parts are not.",
    }
    assert lines == [
        told["what"],
        f"It was noticed at {noticed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC.",
        "The reading of 2026-11-22 04:20:31 UTC decided it: hour_meter_h = 250.3, true_hours_h = 250.3.",
        f"I1: {sentence.sentence_en}",
        f"Edition zoomlion-2011-rev1, file {policy().digest[:12]}.",
        f"Rule inspection, version {inspections.VERSION} (service version {version('telemetry-svc')}).",
        told["free"],
    ]


async def test_an_inspection_that_is_not_free_says_so(house: House) -> None:
    """19.9 t under the text edition: I2 covers 20 t and over."""
    run = Run(machine(19.9, policy_edition=TEXT_EDITION))
    run.read(reading(AT, 50.0))
    await store(house, run)
    told = await why(house, run.one("inspection 50 due"), "zh-CN")
    assert (told["free_of_charge"], told["edition"]["edition"]) == (False, TEXT_EDITION)
    assert told["free"] == "按该版本政策，本机型定检不免费，人工费、里程费和配件费用均需支付（I2）。"
    assert told["what"] == "50 小时定检已到期，时间为 2026-11-22 04:20:31 UTC。"


async def test_a_fault_is_described_with_advice_and_with_the_cover_of_today(house: House) -> None:
    run = Run(machine(delivered_on="2026-10-01"))
    run.read(reading(AT, 100.0, faults=(Fault(110, 0, 3, 0, Lamp.RED_STOP),)))
    await store(house, run)
    told = await why(house, run.one("fault 110/0/0 opened"))
    assert (told["severity"], told["free_of_charge"]) == ("critical", None)
    assert told["meaning"].startswith("Engine Coolant Temperature: ")
    assert told["advice"].startswith("Ask whether the machine still runs hot; stop it")
    assert [clause["clause"] for clause in told["clauses"]] == ["R1", "fault_code"]
    assert told["free"] == (
        "A repair is free as far as it is covered by the whole-machine warranty (W1) or the structural warranty (W2),"
        " in force today; outside it the price is agreed before work begins."
    )
    assert told["story"].splitlines()[-3:] == [
        f"It means: {told['meaning']}.",
        f"Advice: {told['advice']}",
        told["free"],
    ]


async def test_a_fault_after_both_warranties(house: House) -> None:
    run = Run(machine(initial_h=7_000))
    run.read(reading(AT, 7_000.0, faults=(Fault(97, 3),)))
    await store(house, run)
    told = await why(house, run.one("fault 97/3/0 opened"), "zh-CN")
    assert told["free"] == "本机目前没有有效的三包：维修前先商定价格。"
    assert told["advice"]


async def test_a_sensor_has_the_advice_of_its_code(house: House) -> None:
    run = Run()
    run.read(reading(AT, sensors=RUNNING_HOT), reading(AT + timedelta(seconds=60), sensors=RUNNING_HOT))
    await store(house, run)
    told = await why(house, run.one("sensor coolant_temperature_c opened"))
    assert (told["meaning"], told["readings"][-1]["values"]) == (None, {"coolant_temperature_c": 105.01})
    assert told["advice"].startswith("Ask whether the machine still runs hot; stop it")


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_every_kind_of_fact_has_its_story(house: House, language: str) -> None:
    run = everything()
    await store(house, run)
    seen = {}
    for event in run.events:
        seen[word(event).split()[0], event.stage] = event
    for event in seen.values():
        told = await why(house, event, language)
        lines = told["story"].splitlines()
        assert len(lines) >= 6
        assert all(line.strip() and line[-1] in ".。" for line in lines), lines
        assert all(line.isascii() for line in lines) is (language == "en"), lines
        assert told["free"]
    assert {kind for kind, _ in seen} >= {"inspection", "warranty", "checkup", "fault", "hour_meter", "silence"}
    assert {stage for _, stage in seen} >= {"completed", "superseded", "expired", "cleared"}


async def test_a_fact_that_a_replay_has_added_says_so(house: House) -> None:
    run = Run()
    run.read(reading(AT, 50.0))
    await store(house, run, by_replay=True)
    told = await why(house, run.one("inspection 50 due"))
    assert told["by_replay"] is True
    assert told["story"].splitlines()[1].startswith("A replay of stored history found it at ")


async def test_a_file_that_has_changed_since_is_told(house: House) -> None:
    run = Run()
    run.read(reading(AT, 50.0))
    await store(house, run)
    await execute(house, "UPDATE event SET body = jsonb_set(body, '{data,policy_digest}', '\"00ff\"')")
    told = await why(house, run.one("inspection 50 due"))
    assert told["edition"] == {"edition": REV1, "digest": "00ff", "is_todays": False}
    assert (
        "The file of zoomlion-2011-rev1 has changed since: the sentences above are those of today's file."
        in told["story"].splitlines()
    )


async def test_an_edition_that_is_no_longer_loaded_is_told(house: House) -> None:
    run = Run()
    run.read(reading(AT, 50.0))
    await store(house, run)
    await execute(house, "UPDATE event SET body = jsonb_set(body, '{data,policy_edition}', '\"zoomlion-1999\"')")
    told = await why(house, run.one("inspection 50 due"))
    assert (told["clauses"], told["edition"]["is_todays"]) == ([], False)
    assert "The edition zoomlion-1999 is not loaded here: its clauses cannot be shown." in told["story"].splitlines()


async def test_the_language_is_that_of_the_reader(house: House) -> None:
    run = Run()
    run.read(reading(AT, 50.0))
    await store(house, run)
    path = f"/v1/alerts/{run.one('inspection 50 due').id}/why"
    for header, language, expected in (
        (None, None, "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", None, "zh-CN"),
        ("zh-CN", "en", "en"),
        ("de", None, "en"),
    ):
        answer = await _get(house, path, header, language)
        assert (answer.json()["language"], answer.headers["content-language"]) == (expected, expected)
        assert answer.headers["vary"] == "Accept-Language"
    assert (await _get(house, path, None, "de")).status_code == 422


async def _get(house: House, path: str, header: str | None, language: str | None) -> httpx.Response:
    headers = bearer(await house.key(Role.CALL_CENTER)) | ({} if header is None else {"Accept-Language": header})
    async with client_of(house.app) as client:
        return await client.get(path, headers=headers, params={} if language is None else {"language": language})


async def test_an_alert_that_nobody_raised(house: House) -> None:
    answer = await house.get("/v1/alerts/00000000-0000-4000-8000-000000000001/why")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no such alert")
    assert (await house.get("/v1/alerts/1/why")).status_code == 422


async def execute(house: House, sql: str) -> None:
    async with house.engine.begin() as connection:
        await connection.execute(text(sql))
