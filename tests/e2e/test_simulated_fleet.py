"""A seeded fleet through the real pipeline, held to the ground truth that shares no line with the rules.

The fleet lived last month and its bridge was down until now: everything arrives at once, with repeats, backlogs in
reverse, devices whose clocks fell to 2011 or 2038, and hour meters that spike.
"""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from telemetry_svc import topics
from telemetry_svc.cli.sending import send_pings
from telemetry_svc.cli.simulated import values
from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import truth
from tests.e2e.house import House
from tests.e2e.readings import fact_in, id_of

pytestmark = pytest.mark.uncounted  # many readings, few ways

Key = tuple[str, str, str, str]
UNJUDGED = {"checkup", "sensor", "position", "silence", "storm"}
STAGES = ("upcoming", "due", "overdue")
PHASES = ("opened", "worsened-general", "worsened-major", "worsened-critical", "cleared")


class Life(NamedTuple):
    """A fleet, what was sent of it, what must be true of it, and what came out."""

    house: House
    fleet: Fleet
    deliveries: list[Delivery]
    expected: dict[Key, datetime | None]
    maintenance: list[dict[str, Any]]
    anomalies: list[dict[str, Any]]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.maintenance + self.anomalies


def last_month(now: datetime) -> FleetSpec:
    """The same fleet at any hour of a day."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return FleetSpec(
        seed=1,
        machines=20,
        start=midnight - timedelta(days=30),
        hours=14 * 24,
        duplicates=0.1,
        late=0.2,
        faults=0.5,
        clock_faults=4,
        meter_spikes=3,
        ping_every_s=900,
    )


@pytest.fixture(scope="module")
async def life(house: House) -> Life:
    registered_at = datetime.now(UTC)
    fleet = build_fleet(last_month(registered_at))
    answer = await house.ask("POST", "/v1/machines", json=fleet.registrations())
    assert Counter(result["status"] for result in answer.json()["results"]) == {201: len(fleet.plans)}
    await house.settle()
    deliveries = list(iter_deliveries(fleet))
    assert await send_pings(house.kafka, values(fleet)) == len(deliveries)
    await house.settle()
    facts = truth(fleet.machines, deliveries, registered_at=registered_at, until=datetime.now(UTC))
    return Life(
        house=house,
        fleet=fleet,
        deliveries=deliveries,
        expected={fact[:4]: fact.time for fact in facts},
        maintenance=await house.events(topics.MAINTENANCE_DUE),
        anomalies=await house.events(topics.ANOMALY),
    )


def _key(event: dict[str, Any]) -> Key:
    return event["subject"], *fact_in(event)


def _is_judged(key: Key) -> bool:
    """The truth says nothing of these rules, and *upcoming* may also come of the service's own forecast."""
    return key[1] not in UNJUDGED and key[3] != "upcoming"


def test_the_fleet_has_something_of_everything(life: Life) -> None:
    kinds = Counter((rule, stage) for _, rule, _, stage in life.expected)
    assert {
        ("inspection", "upcoming"),
        ("inspection", "due"),
        ("inspection", "overdue"),
        ("warranty", "expiring"),
        ("warranty", "expired"),
        ("fault", "opened"),
        ("fault", "worsened-major"),
        ("fault", "cleared"),
        ("hour_meter", "opened"),
        ("hour_meter", "cleared"),
    } <= kinds.keys()
    assert len(life.deliveries) > 1.05 * len({id(delivery.ping) for delivery in life.deliveries})


def test_what_was_raised_is_what_is_true(life: Life) -> None:
    raised = {_key(event): datetime.fromisoformat(event["time"]) for event in life.events}
    assert life.expected.keys() - raised.keys() == set()
    assert {key for key in raised.keys() - life.expected.keys() if _is_judged(key)} == set()
    assert {key: raised[key] for key, at in life.expected.items() if at and raised[key] != at} == {}


def test_what_was_foreseen_was_still_ahead(life: Life) -> None:
    """*Upcoming* that only the forecast knew of: of the machine's next milestone, and before its *due*."""
    order = {_key(event): place for place, event in enumerate(life.maintenance)}
    for (machine_id, rule, subject, stage), place in order.items():
        if (rule, stage) == ("inspection", "upcoming"):
            assert place < order.get((machine_id, rule, subject, "due"), len(order))


async def test_each_fact_has_one_row_and_its_own_id(life: Life) -> None:
    assert all(event["id"] == id_of(event["subject"], fact_in(event)) for event in life.events)
    out = sorted((event["subject"], event["id"]) for event in life.events)
    assert len(set(out)) == len(out)
    rows = await life.house.rows("SELECT machine_id, CAST(id AS text) FROM event")
    assert sorted(rows) == out


async def test_the_topics_keep_the_order_in_which_each_machine_was_decided(life: Life) -> None:
    rows = await life.house.rows("SELECT machine_id, type, CAST(id AS text) FROM event ORDER BY n")
    decided: dict[tuple[str, str], list[str]] = defaultdict(list)
    for machine_id, type_, alert_id in rows:
        decided[machine_id, type_].append(alert_id)
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in life.events:
        told[event["subject"], event["type"]].append(event["id"])
    assert told == decided


def test_the_stages_of_each_subject_come_in_their_order(life: Life) -> None:
    stages: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for event in life.events:
        machine_id, rule, subject, stage = _key(event)
        stages[machine_id, rule, subject].append(stage)
    for (_, rule, _), came in stages.items():
        order = STAGES if rule == "inspection" else ("expiring", "expired") if rule == "warranty" else PHASES
        assert came == [stage for stage in order if stage in came] or rule == "checkup"


async def test_every_ping_is_in_history_exactly_once(life: Life) -> None:
    sent = {_ping_key(delivery.ping) for delivery in life.deliveries}
    stored = await life.house.rows(
        """
        SELECT machine_id, recorded_at, hour_meter_ch, engine_running, sequence FROM ping
        UNION ALL SELECT machine_id, recorded_at, hour_meter_ch, engine_running, sequence FROM ping_outlier
        """
    )
    assert len(stored) == len(sent)
    assert set(stored) == sent
    assert await life.house.rows("SELECT count(*) FROM dead_letter") == [(0,)]


def _ping_key(ping: Any) -> tuple[Any, ...]:
    hours_h = ping.get("hour_meter_h")
    return (
        ping["machine_id"],
        datetime.fromisoformat(ping["recorded_at"]).astimezone(UTC),
        None if hours_h is None else round(hours_h * 100),
        ping["engine_running"],
        ping.get("sequence"),
    )


async def test_lost_clocks_are_kept_apart_and_marked_where_they_lie_ahead(life: Life) -> None:
    counts = dict(
        await life.house.rows(
            "SELECT (EXTRACT(year FROM recorded_at)::int, future)::text, count(*) FROM ping_outlier GROUP BY 1"
        )
    )
    sent = {_ping_key(delivery.ping)[:2] for delivery in life.deliveries}
    years = Counter(recorded_at.year for _, recorded_at in sent)
    assert counts == {"(2011,f)": years[2011], "(2038,t)": years[2038]}
    assert years[2011] > 10
    assert years[2038] > 10


async def test_each_machine_has_one_call_about_all_that_is_open(life: Life) -> None:
    """Reasons and priority of the open tasks, worked out from what lies on the topics."""
    matters: dict[str, dict[tuple[str, str], tuple[str, int]]] = defaultdict(dict)
    for event in life.events:
        machine_id, rule, subject, stage = _key(event)
        if stage == "cleared":
            matters[machine_id].pop((rule, subject), None)
        elif priority := _priority(event["data"]):
            matters[machine_id][rule, subject] = (event["id"], priority)
    expected = {
        machine_id: ({alert_id for alert_id, _ in open_.values()}, min(priority for _, priority in open_.values()))
        for machine_id, open_ in matters.items()
        if open_
    }
    tasks = [
        task for task in await life.house.all_items("/v1/calls") if task["state"] not in {"completed", "cancelled"}
    ]
    assert {
        task["machine_id"]: ({one["alert_id"] for one in task["reasons"]}, task["priority"]) for task in tasks
    } == expected
    assert len(tasks) == len(expected) > 10
    assert {task["state"] for task in tasks} == {"pending"}


def _priority(data: dict[str, Any]) -> int | None:
    """policy.md, The call queue; None where nobody is called."""
    if data["kind"] in {"inspection", "warranty", "checkup"}:
        return {"overdue": 5, "due": 6, "expiring": 7, "expired": 7, "upcoming": 8}[data["stage"]]
    if data["kind"] == "fault" or data["rule"] in {"coolant_temperature_c", "oil_pressure_kpa"}:
        return {"critical": 1, "major": 2, "general": 3, "warning": None}[data["severity"]]
    return 4 if data["rule"] == "outside_hours" else None


async def test_the_call_topic_ends_where_the_queue_stands(life: Life) -> None:
    last = {change["subject"]: change["data"] for change in await life.house.events(topics.CALLS)}
    assert last == {task["task_id"]: task for task in await life.house.all_items("/v1/calls")}


async def test_nothing_personal_left_the_one_table(life: Life) -> None:
    marks = [mark.encode() for plan in life.fleet.plans for mark in (plan.customer.name, plan.customer.phone)]
    marks += [json.dumps(plan.customer.name)[1:-1].encode() for plan in life.fleet.plans]
    for name in (topics.COMMANDS, topics.MAINTENANCE_DUE, topics.ANOMALY, topics.CALLS, topics.DEAD_LETTERS):
        values_ = [record.value or b"" for record in await life.house.topic(name)]
        assert [value for value in values_ if any(mark in value for mark in marks)] == []
