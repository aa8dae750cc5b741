"""Commands, meter decisions, position, sensors, faults and changes through the whole service: door, broker, database.

All lives of `scenarios.py` are lived side by side, deed by deed; each test then looks at one machine.
"""

from typing import Any, NamedTuple
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer

from telemetry_svc import topics
from telemetry_svc.codec.command import encode_tick
from telemetry_svc.store.keys import Role
from telemetry_svc.stream.kafka import client_options
from telemetry_svc.stream.topics import PARTITIONS
from tests.e2e.house import House, until
from tests.e2e.readings import fact_in, id_of
from tests.e2e.scenarios import DAY, LIVES, Changed, Life, Pings, TimePasses, Told, at

EACH = pytest.mark.parametrize("name", LIVES)
MACHINE_OF = {name: f"LIFE-{number:02d}" for number, name in enumerate(LIVES)}


class Lived(NamedTuple):
    """Everything that came of all lives. `answers`: to each machine's commands, in the order in which they came."""

    house: House
    answers: dict[str, list[tuple[str, str | None]]]
    on_topics: dict[str, list[dict[str, Any]]]

    async def facts(self, machine_id: str) -> list[str]:
        rows = await self.house.rows(
            "SELECT rule, subject, stage, body->'data'->>'policy_clause' FROM event WHERE machine_id = :m ORDER BY n",
            m=machine_id,
        )
        return [" ".join(row) for row in rows]


@pytest.fixture(scope="module")
async def lived(house: House) -> Lived:
    await register(house, {name: life.machine for name, life in LIVES.items()})
    commands: dict[str, list[UUID]] = {machine_id: [] for machine_id in MACHINE_OF.values()}
    for number in range(max(len(life.deeds) for life in LIVES.values())):
        deeds = {name: life.deeds[number] for name, life in LIVES.items() if number < len(life.deeds)}
        await register(house, {name: deed.fields for name, deed in deeds.items() if isinstance(deed, Changed)})
        await send(house, {name: deed for name, deed in deeds.items() if isinstance(deed, Pings)})
        for name, deed in deeds.items():
            if isinstance(deed, Told):
                commands[MACHINE_OF[name]].append(await tell(house, MACHINE_OF[name], deed))
        if any(isinstance(deed, TimePasses) for deed in deeds.values()):
            await tick(house)
        await house.settle()
    await until(lambda: time_has_passed(house))
    await house.settle()
    answers = {machine_id: [await answer(house, one) for one in given] for machine_id, given in commands.items()}
    on_topics: dict[str, list[dict[str, Any]]] = {machine_id: [] for machine_id in MACHINE_OF.values()}
    for event in await house.events(topics.MAINTENANCE_DUE, topics.ANOMALY):
        on_topics[event["subject"]].append(event)
    return Lived(house, answers, on_topics)


async def register(house: House, machines: dict[str, dict[str, Any]]) -> None:
    given = [{"machine_id": MACHINE_OF[name], "tonnage_t": 22.5} | fields for name, fields in machines.items()]
    if given:
        answers = (await house.ask("POST", "/v1/machines", json=given)).json()["results"]
        assert {one["status"] for one in answers} <= {200, 201}, answers
        await house.settle()


async def send(house: House, deeds: dict[str, Pings]) -> None:
    """Over HTTP, as a bridge: in the order of each machine's life."""
    readings = [
        {"machine_id": MACHINE_OF[name], "recorded_at": recorded_at} | fields
        for name, deed in deeds.items()
        for recorded_at, fields in deed.readings
    ]
    if readings:
        answer = await house.ask("POST", "/v1/pings", role=Role.DEVICE, json=readings)
        assert {verdict["status"] for verdict in answer.json()["verdicts"]} == {"accepted"}, answer.text


async def tell(house: House, machine_id: str, deed: Told) -> UUID:
    answer = await house.ask("POST", f"/v1/machines/{machine_id}/{deed.path}", json=deed.body)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["command_id"])


async def answer(house: House, command_id: UUID) -> tuple[str, str | None]:
    told = (await house.ask("GET", f"/v1/commands/{command_id}")).json()
    return told["status"], told["reason"]


async def tick(house: House) -> None:
    """As the scheduler writes one; its own may come as well."""
    async with AIOKafkaProducer(**client_options(house.kafka, "tests"), acks="all") as producer:
        for number in range(PARTITIONS):
            await producer.send_and_wait(topics.COMMANDS, encode_tick(DAY), partition=number)


async def time_has_passed(house: House) -> bool:
    """No machine waits for a moment that lies behind us."""
    [(waiting,)] = await house.rows("SELECT count(*) FROM machine_state WHERE next_check_at <= now()")
    return bool(waiting == 0)


@EACH
async def test_a_life_raises_its_facts_and_nothing_else(lived: Lived, name: str) -> None:
    """In the order in which they were decided, each under its clause."""
    assert await lived.facts(MACHINE_OF[name]) == list(LIVES[name].facts)


@EACH
async def test_its_commands_were_answered(lived: Lived, name: str) -> None:
    expected = [deed.answer for deed in LIVES[name].deeds if isinstance(deed, Told)]
    assert lived.answers[MACHINE_OF[name]] == expected


@EACH
async def test_what_went_out_is_what_was_decided_under_ids_that_anyone_can_work_out(lived: Lived, name: str) -> None:
    machine_id, life = MACHINE_OF[name], LIVES[name]
    told = [fact_in(event) for event in lived.on_topics[machine_id]]
    assert sorted(told) == sorted(facts_of(life))
    assert [event["id"] for event in lived.on_topics[machine_id]] == [id_of(machine_id, fact) for fact in told]
    for topic in ("maintenance_due", "anomaly"):
        there = [fact_in(event) for event in lived.on_topics[machine_id] if topic in event["type"]]
        assert there == [fact for fact in facts_of(life) if fact in there], "the order of one machine on one topic"
    listed = await items(lived.house, "/v1/alerts", machine_id)
    assert {one["id"] for one in listed} == {id_of(machine_id, fact) for fact in facts_of(life)}


def facts_of(life: Life) -> list[tuple[str, str, str]]:
    facts = []
    for line in life.facts:
        rule, subject, stage, _ = line.split(" ")
        facts.append((rule, subject, stage))
    return facts


async def items(house: House, path: str, machine_id: str) -> list[dict[str, Any]]:
    answer = await house.ask("GET", path, role=Role.SUPERVISOR, params={"machine_id": machine_id, "limit": 100})
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


@EACH
async def test_each_of_its_facts_can_say_why(lived: Lived, name: str) -> None:
    async with lived.house.client() as client:
        for event in lived.on_topics[MACHINE_OF[name]]:
            told = (await client.get(f"/v1/alerts/{event['id']}/why")).json()
            clause = event["data"]["policy_clause"]
            assert told["clauses"][0]["clause"] == clause
            assert told["rule_version"] >= 1
            assert told["readings"] or event["data"]["kind"] in ("inspection", "warranty", "checkup"), told["story"]


WHEN = {
    ("position", f"outside_hours@{at(10)}", "cleared"): at(22),
    ("storm", at(0), "cleared"): at(24),
    ("inspection", "500", "completed"): at(1),
    ("inspection", "50", "superseded"): at(1),
    ("checkup", "1", "due"): at(1),
    ("sensor", f"coolant_temperature_c@{at(0)}", "opened"): at(0, 60),
    ("hour_meter", at(1), "opened"): at(1),
}


@pytest.mark.parametrize("fact", WHEN, ids=" ".join)
async def test_when_it_became_true(lived: Lived, fact: tuple[str, str, str]) -> None:
    """The deciding reading, the day the work was done, or the moment the clock decides: never when it was noticed."""
    times = {event["time"] for events in lived.on_topics.values() for event in events if fact_in(event) == fact}
    assert {time.replace("Z", ".000Z") for time in times} == {WHEN[fact]}


async def test_an_operators_word_closes_at_the_moment_it_was_received(lived: Lived) -> None:
    machine_id = MACHINE_OF["a leap that an operator accepts"]
    [(received_at,)] = await lived.house.rows(
        "SELECT received_at FROM command WHERE machine_id = :m AND kind = 'meter_decision'", m=machine_id
    )
    times = await lived.house.rows(
        "SELECT rule, time FROM event WHERE machine_id = :m AND stage IN ('due', 'cleared') ORDER BY n", m=machine_id
    )
    assert times == [("inspection", DAY.replace(hour=3)), ("hour_meter", received_at)]


async def test_the_task_of_a_retired_machine_is_cancelled(lived: Lived) -> None:
    machine_id = MACHINE_OF["a retired machine says nothing, and on the way back nothing of what it passed"]
    tasks = await items(lived.house, "/v1/calls", machine_id)
    assert [task["state"] for task in tasks] == ["cancelled"]


async def test_nothing_was_refused_on_the_way(lived: Lived) -> None:
    assert await lived.house.rows("SELECT error_class, count(*) FROM dead_letter GROUP BY 1") == []
