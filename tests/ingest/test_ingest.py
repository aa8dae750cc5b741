"""Pings and commands through the real broker into the real database, and what comes out on the topics."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.codec import command as command_codec
from telemetry_svc.stream.kafka import KafkaSettings, partition_of
from telemetry_svc.telemetry import InspectionDone, MachineId
from tests.ingest.pipeline import PARTITIONS, Pipeline, ping, running_pipeline

M = "ZE215-000017"


@pytest.fixture
async def pipeline(
    kafka: KafkaSettings, engine: AsyncEngine, clean_database: None, clean_topics: None
) -> AsyncIterator[Pipeline]:
    async with running_pipeline(kafka, engine) as running:
        yield running


async def alerts(pipeline: Pipeline) -> list[tuple[str, ...]]:
    records = await pipeline.topic(topics.MAINTENANCE_DUE) + await pipeline.topic(topics.ANOMALY)
    events = [json.loads(record.value or b"") for record in records]
    return [
        (event["id"], event["data"]["kind"], event["data"].get("stage") or event["data"]["phase"]) for event in events
    ]


async def test_a_reading_over_a_milestone_becomes_one_alert(pipeline: Pipeline) -> None:
    await pipeline.register(M)
    await pipeline.settle()
    await pipeline.produce(topics.PINGS, M, ping(M, "2026-11-20T04:20:31Z", hour_meter_h=49.99))
    await pipeline.produce(topics.PINGS, M, ping(M, "2026-11-20T05:20:31Z", hour_meter_h=50.00))
    await pipeline.produce(topics.PINGS, M, ping(M, "2026-11-20T05:20:31Z", hour_meter_h=50.00))
    await pipeline.settle()
    assert [(kind, stage) for _, kind, stage in await alerts(pipeline)] == [
        ("inspection", "upcoming"),
        ("inspection", "due"),
    ]
    assert await pipeline.rows("SELECT count(*) FROM ping") == [(2,)]
    assert await pipeline.rows("SELECT count(*) FROM event") == [(2,)]
    assert await pipeline.rows("SELECT count(*) FROM dead_letter") == [(0,)]


BAD: dict[str, tuple[str | bytes | None, bytes | None, str]] = {
    "not_json": (M, b"hello", "malformed"),
    "empty": (M, b"", "malformed"),
    "null": (M, None, "malformed"),
    "bad_utf8_in_unknown_field": (
        M,
        ping(M, "2026-11-20T04:20:31Z", hour_meter_h=1)[:-1] + b',"x":"\xff"}',
        "malformed",
    ),
    "nan": (M, ping(M, "2026-11-20T04:20:31Z", hour_meter_h=float("nan")), "malformed"),
    "10000_levels": (M, b"[" * 10_000, "malformed"),
    "wrong_type": (M, ping(M, "2026-11-20T04:20:31Z", hour_meter_h="249.9"), "invalid"),
    "nul_in_a_string": (M, ping(M, "2026-11-20T04:20:31Z", hour_meter_h=1, device_id="a\0b"), "invalid"),
    "out_of_range": (M, ping(M, "2026-11-20T04:20:31Z", hour_meter_h=200_000.01), "invalid"),
    "no_key": (None, ping(M, "2026-11-20T04:20:31Z", hour_meter_h=1), "key_mismatch"),
    "other_key": ("ZE215-000018", ping(M, "2026-11-20T04:20:31Z", hour_meter_h=1), "key_mismatch"),
    "key_not_utf8": (b"\xff\xfe", ping(M, "2026-11-20T04:20:31Z", hour_meter_h=1), "key_mismatch"),
    "unknown_machine": ("GHOST-1", ping("GHOST-1", "2026-11-20T04:20:31Z", hour_meter_h=1), "unknown_machine"),
    "largest_record": (M, b"x" * (1024 * 1024 - 200), "too_large"),
}


async def test_bad_records_are_dead_letters_and_their_neighbours_are_stored(pipeline: Pipeline) -> None:
    await pipeline.register(M)
    await pipeline.settle()
    place = partition_of(M.encode(), PARTITIONS)
    for number, (key, value, _) in enumerate(BAD.values()):
        await pipeline.produce(topics.PINGS, key, value, partition=place)
        good = ping(M, f"2026-11-20T06:{number:02d}:00Z", hour_meter_h=10)
        await pipeline.produce(topics.PINGS, M, good, partition=place)
    await pipeline.produce(topics.PINGS, M, ping(M, "2026-11-20T05:00:00Z", hour_meter_h=1), partition=(place + 1) % 12)
    await pipeline.settle()
    stored = await pipeline.rows("SELECT error_class, count(*) FROM dead_letter GROUP BY 1")
    expected: dict[str, int] = {"wrong_partition": 1}
    for _, _, error_class in BAD.values():
        expected[error_class] = expected.get(error_class, 0) + 1
    assert dict(stored) == expected
    assert await pipeline.rows("SELECT count(*) FROM ping") == [(len(BAD),)]
    letters = await pipeline.topic(topics.DEAD_LETTERS)
    assert len(letters) == len(BAD) + 1
    by_offset = {
        int(dict(letter.headers)["x-original-offset"]): letter for letter in letters if _place(letter) == place
    }
    first, *_ = sorted(by_offset)
    assert [dict(by_offset[offset].headers)["x-error-class"].decode() for offset in sorted(by_offset)] == [
        error_class for _, _, error_class in BAD.values()
    ]
    assert by_offset[first].value == b"hello"
    assert by_offset[first].key == M.encode()


def _place(letter: Any) -> int:
    return int(dict(letter.headers)["x-original-partition"])


async def test_repeated_late_future_and_outlying_pings(pipeline: Pipeline) -> None:
    await pipeline.register(M)
    await pipeline.settle()
    now = datetime.now(UTC).replace(microsecond=0)

    def at(delta: timedelta) -> str:
        return (now + delta).isoformat()

    sent = [
        ping(M, at(timedelta(hours=-2)), hour_meter_h=30, sequence=1),
        ping(M, at(timedelta(hours=-1)), hour_meter_h=31, sequence=2),
        ping(M, at(timedelta(hours=-2)), hour_meter_h=30, sequence=1),
        ping(M, at(timedelta(hours=-3)), hour_meter_h=29, sequence=3),
        ping(M, at(timedelta(minutes=30)), hour_meter_h=9_000, sequence=4),
        ping(M, "2011-01-01T00:00:00Z", hour_meter_h=1, sequence=5),
        ping(M, "2011-01-01T00:00:00Z", hour_meter_h=1, sequence=5),
        ping(M, "2038-01-19T03:14:07Z", hour_meter_h=9_000, sequence=6),
        ping(M, "2038-01-19T03:14:07Z", hour_meter_h=9_000, sequence=6),
        ping(M, at(timedelta(minutes=-1)), hour_meter_h=31.5, sequence=7),
    ]
    for value in sent:
        await pipeline.produce(topics.PINGS, M, value)
    await pipeline.settle()
    assert await pipeline.rows("SELECT sequence, future FROM ping ORDER BY sequence") == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
        (7, False),
    ]
    assert await pipeline.rows("SELECT sequence, future FROM ping_outlier ORDER BY sequence") == [(5, False), (6, True)]
    assert await alerts(pipeline) == []


async def test_pings_before_the_registration_are_taken_up_once_it_is_applied(pipeline: Pipeline) -> None:
    offsets = [
        await pipeline.produce(
            topics.PINGS, M, ping(M, f"2026-11-20T0{number}:00:00Z", hour_meter_h=hours_h), headers=[("trace", None)]
        )
        for number, hours_h in enumerate((49.5, 50.0, 50.5))
    ]
    await pipeline.settle()
    assert await pipeline.rows("SELECT count(*) FROM dead_letter WHERE error_class = 'unknown_machine'") == [(3,)]
    await pipeline.register(M)
    await pipeline.settle()
    assert await pipeline.rows("SELECT taken_up_as, count(*) FROM dead_letter GROUP BY 1") == [("replayed", 3)]
    assert await pipeline.rows("SELECT topic_offset FROM ping ORDER BY recorded_at") == [
        (offset,) for offset in offsets
    ]
    assert [(kind, stage) for _, kind, stage in await alerts(pipeline)] == [
        ("inspection", "upcoming"),
        ("inspection", "due"),
    ]
    assert len(await pipeline.topic(topics.PINGS)) == 3


async def test_a_command_that_comes_twice_is_applied_once(pipeline: Pipeline) -> None:
    from tests.ingest.pipeline import registration

    value = registration(M)
    for _ in range(2):
        await pipeline.produce(topics.COMMANDS, M, value)
    await pipeline.settle()
    await pipeline.produce(topics.COMMANDS, M, value)
    await pipeline.settle()
    assert await pipeline.rows("SELECT status, kind FROM command") == [("applied", "registration")]
    assert await pipeline.rows("SELECT count(*) FROM dead_letter") == [(0,)]


async def test_a_command_before_its_machine_is_registered_is_taken_up_too(pipeline: Pipeline) -> None:
    await pipeline.produce(topics.PINGS, M, ping(M, "2026-11-20T04:20:31Z", hour_meter_h=49.99))
    at = datetime(2026, 11, 20, 5, tzinfo=UTC)
    done = InspectionDone(uuid4(), MachineId(M), at, at, milestone_h=50)
    await pipeline.produce(topics.COMMANDS, M, command_codec.encode(done))
    await pipeline.settle()
    await pipeline.produce(topics.PINGS, M, ping(M, "2026-11-20T06:20:31Z", hour_meter_h=50.5))
    await pipeline.settle()
    await pipeline.register(M)
    async with asyncio.timeout(30):
        while await pipeline.rows("SELECT DISTINCT taken_up_as FROM dead_letter") != [("replayed",)]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await pipeline.settle()
    assert [(kind, stage) for _, kind, stage in await alerts(pipeline)] == [
        ("inspection", "upcoming"),
        ("inspection", "completed"),
    ]
    seqs = "SELECT apply_seq, 'ping' FROM ping UNION SELECT apply_seq, kind FROM command ORDER BY 1"
    assert [row[1] for row in await pipeline.rows(seqs)] == ["registration", "ping", "inspection_done", "ping"]
    assert await pipeline.rows("SELECT count(*) FROM parked_machine") == [(0,)]
