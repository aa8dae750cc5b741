"""`telemetry-svc dead-letters` as a person runs it, beside an ingest member on the real broker and database."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.store.dead_letter_list import LetterFilter, Wanted, want_again
from telemetry_svc.stream.kafka import KafkaSettings, partition_of
from tests.cli.programs import Cli
from tests.ingest.failing import deployed, of
from tests.ingest.pipeline import PARTITIONS, Pipeline, ping, running_pipeline

M = "ZE215-000017"
PLACE = partition_of(M.encode(), PARTITIONS)
NASTY = b"\r\nPS1=\x1b[31mred\x1b[0m \xff \x07 \xe6\xb3\xb5\\"


@pytest.fixture
async def pipeline(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> AsyncIterator[Pipeline]:
    async with running_pipeline(kafka, engine) as running:
        yield running


class Answer(NamedTuple):
    code: int
    out: list[str]
    err: list[str]


async def dead_letters(*arguments: str, cli: Cli, engine: AsyncEngine) -> Answer:
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    ended = await asyncio.to_thread(cli, "dead-letters", *arguments, database_url=url)
    return Answer(ended.code, ended.out.splitlines(), ended.err.splitlines())


def reading(hours_ago: int, hours_h: float) -> bytes:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours_ago)
    return ping(M, at.isoformat(), hour_meter_h=hours_h)


async def letter_of(pipeline: Pipeline, value: bytes, **options: Any) -> str:
    offset = await pipeline.produce(topics.PINGS, M, value, **options)
    await pipeline.settle()
    return f"{topics.PINGS}:{PLACE}:{offset}"


async def test_what_is_shown_does_nothing(pipeline: Pipeline, cli: Cli, engine: AsyncEngine) -> None:
    letter_id = await letter_of(pipeline, NASTY, headers=[("trace", None), ("h", b"\xfe")])
    listed = await dead_letters("list", cli=cli, engine=engine)
    shown = await dead_letters("show", letter_id, cli=cli, engine=engine)
    assert (listed.code, shown.code, listed.err, shown.err) == (0, 0, [], [])
    assert [line.split()[0] for line in listed.out] == ["ID", letter_id]
    assert r"value     \r\nPS1=\x1b[31mred\x1b[0m \xff \x07 泵\\" in shown.out
    assert [line for line in shown.out if line.startswith("header")] == ["header    trace: -", r"header    h: \xfe"]
    assert [line for line in shown.out if not line.isprintable()] == []


async def test_json_has_the_bytes_themselves(pipeline: Pipeline, cli: Cli, engine: AsyncEngine) -> None:
    letter_id = await letter_of(pipeline, b"hello")
    [listed] = (await dead_letters("list", "--json", cli=cli, engine=engine)).out
    [shown] = (await dead_letters("show", letter_id, "--json", cli=cli, engine=engine)).out
    assert json.loads(shown)["value_base64"] == "aGVsbG8="
    assert json.loads(listed) == {key: json.loads(shown)[key] for key in json.loads(listed)}
    assert (json.loads(listed)["error_class"], json.loads(listed)["status"]) == ("malformed", "open")


FILTERS = {
    "class": (("--class", "malformed"), 1),
    "another class": (("--class", "invalid"), 0),
    "machine": (("--machine", M), 1),
    "topic": (("--topic", topics.PINGS), 2),
    "another topic": (("--topic", topics.COMMANDS), 0),
    "status": (("--status", "open"), 2),
    "another status": (("--status", "replayed"), 0),
    "since": (("--since", "2026-01-01T00:00:00Z"), 2),
    "until": (("--until", "2026-01-01T00:00:00Z"), 0),
    "all of them": (("--class", "unknown_machine", "--machine", M, "--status", "open"), 1),
    "limit": (("--limit", "1"), 1),
}


async def test_filters(pipeline: Pipeline, cli: Cli, engine: AsyncEngine) -> None:
    await letter_of(pipeline, b"hello")
    await letter_of(pipeline, reading(1, 10))
    for name, (options, count) in FILTERS.items():
        answer = await dead_letters("list", "--json", *options, cli=cli, engine=engine)
        assert (answer.code, len(answer.out)) == (0, count), name


async def test_replay_says_what_became_of_each_and_may_be_said_again(
    pipeline: Pipeline, cli: Cli, engine: AsyncEngine
) -> None:
    """A registration that was lost: its machine's pings are dead. Then it is there, as after a restored backup."""
    malformed = await letter_of(pipeline, b"hello")
    unknown = await letter_of(pipeline, reading(2, 50.5))
    await pipeline.register(M)
    await pipeline.settle()
    async with engine.begin() as connection:  # as if nobody had taken it up
        await connection.execute(text("UPDATE dead_letter SET taken_up_at = NULL, taken_up_as = NULL"))
        for table in ("ping", "event"):
            await connection.execute(text(f"DELETE FROM {table}"))
    dry = await dead_letters("replay", unknown, malformed, "--dry-run", cli=cli, engine=engine)
    assert dry == (0, ["2 open"], [])
    first = await dead_letters("replay", unknown, malformed, "--yes", cli=cli, engine=engine)
    assert (first.code, first.out[0], sorted(first.out[1:])) == (
        1,
        "2 open",
        ["1 refused again: malformed: Expecting value at character 0", "1 taken up"],
    )
    again = await dead_letters("replay", unknown, "--yes", cli=cli, engine=engine)
    assert again == (0, ["1 replayed"], [f"{unknown} is not tried: replayed before"])
    assert await pipeline.rows("SELECT hour_meter_ch FROM ping") == [(5050,)]
    assert len(await pipeline.topic(topics.PINGS)) == 2


async def test_a_letter_of_a_parked_machine_is_tried_at_once(pipeline: Pipeline, cli: Cli, engine: AsyncEngine) -> None:
    await pipeline.register(M)
    await pipeline.settle()
    with deployed(of(M)) as deploy:
        letter_id = await letter_of(pipeline, reading(2, 10))
        await letter_of(pipeline, reading(1, 11))
        deploy.mend()
        answer = await dead_letters("replay", "--machine", M, "--yes", cli=cli, engine=engine)
        assert (answer.code, answer.out) == (
            0,
            ["1 parked", "1 tried at once by itself, for its machine is parked behind it"],
        )
        async with asyncio.timeout(30):
            while await pipeline.rows("SELECT machine_id FROM parked_machine"):  # noqa: ASYNC110 - a database tells by asking
                await asyncio.sleep(0.05)
        done = await dead_letters("list", "--status", "replayed", "--json", cli=cli, engine=engine)
        assert [json.loads(line)["id"] for line in done.out] == [letter_id]
    assert await pipeline.rows("SELECT hour_meter_ch FROM ping ORDER BY apply_seq") == [(1000,), (1100,)]


async def lost(engine: AsyncEngine, *offsets: int, tried_as: str | None = None) -> None:
    """Letters as ingest has written them."""
    async with engine.begin() as connection:
        await connection.execute(_LOST, [{"topic": topics.PINGS, "n": n, "as": tried_as, "m": M} for n in offsets])


_LOST = text(
    "INSERT INTO dead_letter (topic, partition, topic_offset, error_class, error_message, record_timestamp, machine_id,"
    " taken_up_as) VALUES (:topic, 0, :n, 'internal', 'why', now(), :m, :as)"
)


async def test_without_ingest_it_says_that_nothing_was_taken_up(
    engine: AsyncEngine, clean_database: None, cli: Cli
) -> None:
    await lost(engine, 0)
    answer = await dead_letters("replay", "--class", "internal", "--yes", "--wait", "0", cli=cli, engine=engine)
    assert answer == (1, ["1 open", "1 not taken up yet: is ingest running?"], [])


@pytest.mark.parametrize(
    ("topic", "offset", "why"),
    [
        (topics.PINGS, 7, f"the machine is parked behind {topics.PINGS}:0:7, that one is tried first"),
        (None, None, "the machine catches up first"),
    ],
)
async def test_a_letter_of_a_machine_that_is_parked_behind_another_says_so(
    engine: AsyncEngine, clean_database: None, cli: Cli, topic: str | None, offset: int | None, why: str
) -> None:
    await lost(engine, 0, 7)
    async with engine.begin() as connection:
        query = (
            "INSERT INTO parked_machine (machine_id, partition, topic, topic_offset, reason, next_try_at)"
            " VALUES (:m, 0, :topic, :offset, 'internal', now())"
        )
        await connection.execute(text(query), {"m": M, "topic": topic, "offset": offset})
    letter_id = f"{topics.PINGS}:0:0"
    answer = await dead_letters("replay", letter_id, "--yes", "--wait", "0", cli=cli, engine=engine)
    assert answer == (1, ["1 open", f"1 not taken up yet: {why}"], [])


async def test_what_another_replay_takes_up_meanwhile_is_counted_too(engine: AsyncEngine, clean_database: None) -> None:
    """Two of three refused letters come through between finding and marking: the sum is three all the same."""
    await lost(engine, 0, 1, 2, tried_as="internal")
    async with engine.connect() as ingest:
        done = "UPDATE dead_letter SET taken_up_as = 'replayed' WHERE topic_offset < 2"
        await ingest.execute(text(done))
        wanting = asyncio.create_task(want(engine, LetterFilter(status="refused")))
        async with asyncio.timeout(10):
            while not await ingest.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await ingest.commit()
    wanted = await wanting
    assert (len(wanted.requested), wanted.parked, wanted.done, wanted.elsewhere) == (1, 0, 2, 0)


async def want(engine: AsyncEngine, which: LetterFilter) -> Wanted:
    async with engine.begin() as connection:
        return await want_again(connection, which)


REFUSED = {
    "nothing named": (("replay", "--yes"), "name the letters, or a filter"),
    "no id": (("show", "excavator.pings:3"), "TOPIC:PARTITION:OFFSET"),
    "no such status": (("list", "--status", "lost"), "one of open, requested"),
    "no such class": (("list", "--class", "bad"), "'bad' is not one of"),
    "a time without an offset": (("list", "--since", "2026-11-22T00:00:00"), "needs an offset"),
    "no time between": (
        ("list", "--since", "2026-11-22T00:00:00Z", "--until", "2026-11-21T00:00:00Z"),
        "must lie before --until",
    ),
    "no time between, replayed": (
        ("replay", "--since", "2026-11-22T00:00:00Z", "--until", "2026-11-22T00:00:00Z"),
        "must lie before --until",
    ),
    "no text": (("list", "--machine", "M\udcff"), r"telemetry-svc: an argument is not UTF-8: 'M\udcff'"),
}


@pytest.mark.parametrize(("arguments", "why"), REFUSED.values(), ids=REFUSED)
async def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], why: str, cli: Cli, engine: AsyncEngine
) -> None:
    answer = await dead_letters(*arguments, cli=cli, engine=engine)
    assert (answer.code, answer.out) == (2, [])
    assert why in " ".join(line.strip("│ ") for line in answer.err)


async def test_a_letter_that_is_not_there(cli: Cli, engine: AsyncEngine, clean_database: None) -> None:
    assert await dead_letters("show", "excavator.pings:0:1", cli=cli, engine=engine) == (
        1,
        [],
        ["there is no such dead letter"],
    )
    assert await dead_letters("list", cli=cli, engine=engine) == (0, ["no dead letters"], [])
    missing = "there is no dead letter excavator.pings:0:1"
    replay = ("replay", "--yes", "--wait", "0", "excavator.pings:0:1")
    assert await dead_letters(*replay, cli=cli, engine=engine) == (1, [], [missing])
    await lost(engine, 0, tried_as="replayed")
    await lost(engine, 2)
    named = (*replay, "excavator.pings:0:0", "excavator.pings:0:2", "--class", "invalid")
    assert await dead_letters(*named, cli=cli, engine=engine) == (
        1,
        [],
        [
            missing,
            "excavator.pings:0:0 is not tried: replayed before",
            "excavator.pings:0:2 is not tried: it does not fit the filter",
        ],
    )
