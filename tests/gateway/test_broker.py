"""The real broker: acknowledged means readable, and a broker that is away means 503 and no more."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from prometheus_client import CollectorRegistry

from telemetry_svc import topics
from telemetry_svc.embedded.ports import free_port
from telemetry_svc.gateway import BrokerUnavailable, GatewayMetrics, KafkaPingSink, create_router
from telemetry_svc.gateway import producer as producing
from telemetry_svc.store.keys import Role
from telemetry_svc.stream.kafka import KafkaSettings, partition_of
from telemetry_svc.stream.topics import PARTITIONS
from tests.conftest import client_tasks, read_topic
from tests.web.doubles import KeysInMemory, app_of, bearer, client_of


@pytest.fixture
async def sink(kafka: KafkaSettings) -> AsyncIterator[KafkaPingSink]:
    sink = KafkaPingSink(kafka)
    yield sink
    await sink.close()


async def _all_records(kafka: KafkaSettings) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of the ping topic, each partition in order."""
    found = await read_topic(kafka, topics.PINGS)
    return [(record.partition, record.key or b"", record.value or b"") for record in found]


def _ping(machine_id: str, sequence: int) -> dict[str, object]:
    return {
        "machine_id": machine_id,
        "recorded_at": "2026-11-22T04:20:31Z",
        "hour_meter_h": 249.9,
        "sequence": sequence,
    }


@pytest.mark.usefixtures("clean_topics")
async def test_what_was_answered_202_is_on_the_topic_and_nothing_else(
    kafka: KafkaSettings, sink: KafkaPingSink
) -> None:
    keys = KeysInMemory()
    app = app_of([create_router(sink=sink, metrics=GatewayMetrics(CollectorRegistry()))], keys=keys)
    machines = [f"ZE215-{number:06d}" for number in range(20)]
    pings = [_ping(machine_id, sequence) for sequence in range(10) for machine_id in machines]
    body = json.dumps([*pings, {"machine_id": machines[0]}]).encode()
    async with client_of(app) as client:
        answer = await client.post("/v1/pings", content=body, headers=bearer(keys.add(Role.DEVICE)))
    assert answer.status_code == 202
    found = await _all_records(kafka)
    assert sorted(json.loads(value)["machine_id"] for _, _, value in found) == sorted(machines * 10)
    for partition, key, value in found:
        assert key.decode() == json.loads(value)["machine_id"]
        assert partition == partition_of(key, PARTITIONS)
    for machine_id in machines:
        order = [json.loads(value)["sequence"] for _, key, value in found if key.decode() == machine_id]
        assert order == list(range(10))


async def test_the_broker_is_well(sink: KafkaPingSink) -> None:
    assert await sink.check() is None


async def test_a_broker_that_is_away_is_said_and_the_next_request_tries_anew(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = KafkaPingSink(KafkaSettings(f"127.0.0.1:{free_port()}"))
    assert await sink.check() == "the broker does not answer"
    with pytest.raises(BrokerUnavailable):
        await sink.send([(b"A", b"{}")])
    monkeypatch.setattr(sink, "_kafka", kafka)
    await sink.send([(b"A", b"{}")])
    await sink.close()


async def test_a_broker_that_hangs_leaves_no_producer_behind(
    sink: KafkaPingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times with a request in flight: neither tasks nor connections of those that were given up."""
    monkeypatch.setattr(producing, "ACK_TIMEOUT_S", 2.0)
    monkeypatch.setattr(producing, "FLUSH_TIMEOUT_S", 0.1)
    tasks_before = client_tasks()
    in_flight: list[AIOKafkaClient] = []
    answering: Any = AIOKafkaClient.send

    async def hanging(client: AIOKafkaClient, node_id: int, request: Any, **group: Any) -> Any:
        if isinstance(request, ProduceRequest):
            in_flight.append(client)
            await asyncio.Event().wait()
        return await answering(client, node_id, request, **group)

    with monkeypatch.context() as broker:
        broker.setattr(AIOKafkaClient, "send", hanging)
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="TimeoutError"):
                await sink.send([(b"A", b"{}")])
    assert len(set(in_flight)) == 3
    assert [connection for client in in_flight for connection in client._conns.values() if connection.connected()] == []
    assert client_tasks() == tasks_before
    await sink.send([(b"A", b"{}")])


async def test_what_another_request_has_given_goes_out_before_a_producer_is_left(
    kafka: KafkaSettings, sink: KafkaPingSink, clean_topics: None
) -> None:
    """It shares the producer with one that is refused."""
    refused = sink.send([(b"A", b"x" * 2_000_000)])
    other, refusal = await asyncio.gather(sink.send([(b"B", b"{}")]), refused, return_exceptions=True)
    assert (other, type(refusal)) == (None, BrokerUnavailable)
    assert [(key, value) for _, key, value in await _all_records(kafka)] == [(b"B", b"{}")]


async def test_after_a_refusal_the_producer_is_built_anew(sink: KafkaPingSink) -> None:
    too_large = b"x" * 2_000_000
    with pytest.raises(BrokerUnavailable):
        await sink.send([(b"A", too_large)])
    await asyncio.gather(*(sink.send([(b"A", b"{}")]) for _ in range(5)))
