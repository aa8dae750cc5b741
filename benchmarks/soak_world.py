"""The world around a soaked service: a fleet at a steady rate, and people who look, claim calls and report inspections.

A ping counts when it was acknowledged. What people are refused is part of the load; that nobody answers is not, so it
is counted and told.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count, cycle, takewhile
from typing import Any

import httpx
import msgspec
from aiokafka import AIOKafkaProducer

from telemetry_svc import topics
from telemetry_svc.cli.sending import no_progress, ping_producer, send_pings
from telemetry_svc.simulate.clauses import MILESTONES_H
from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.fleet import Fleet
from telemetry_svc.stream.kafka import KafkaSettings

STEP_S = 0.1
BY_GATEWAY_EVERY = 4
"""Each machine with such a number sends by way of the gateway."""
BAD_EVERY = 150
"""Each record with such a number is one that must become a dead letter."""
PEOPLE_PAUSE_S = 1.0
PAGES = ("alerts?limit=200", "calls?limit=200", "dead-letters?limit=200", "machines?limit=200")
STREAM = "alerts/stream"

LOOKED_AT_DAYS = 15

Address = Callable[[], str | None]
_encode = msgspec.json.Encoder().encode


class Pings:
    """A fleet's deliveries, one after the other.

    `acknowledged`: since the ageing; `unanswered`: batches that the gateway did not take.
    """

    def __init__(self, fleet: Fleet, kafka: KafkaSettings, gateway: Address, key: str) -> None:
        self._deliveries = iter_deliveries(fleet)
        self._started_at = fleet.spec.start
        self._kafka = kafka
        self._gateway = gateway
        self._headers = {"Authorization": f"Bearer {key}"}
        by_gateway = fleet.machines[::BY_GATEWAY_EVERY]
        self._by_gateway = frozenset(machine.machine_id for machine in by_gateway)
        self._numbers = count(1)
        self.acknowledged = 0
        self.unanswered = 0

    async def age(self, days: float, progress: Callable[[int], None] = no_progress) -> int:
        """Sends the fleet's first days as fast as the broker takes them; returns how many pings those were."""
        until = self._started_at + timedelta(days=days)
        young = takewhile(lambda one: one.at < until, self._deliveries)
        return await send_pings(self._kafka, ((one.machine_id, _encode(one.ping)) for one in young), progress)

    async def keep_coming(self, per_s: float) -> None:
        """Until it is cancelled. What was not sent in time is sent later: the rate is that of the whole run."""
        begun_s, due = time.monotonic(), 0
        async with ping_producer(self._kafka) as producer, httpx.AsyncClient(headers=self._headers) as client:
            while True:
                await asyncio.sleep(STEP_S)
                wanted = int((time.monotonic() - begun_s) * per_s)
                step = min(wanted - due, int(10 * STEP_S * per_s))
                due += step
                await self._send(producer, client, [next(self._deliveries) for _ in range(step)])

    async def _send(self, producer: AIOKafkaProducer, client: httpx.AsyncClient, step: Sequence[Delivery]) -> None:
        posted = [one for one in step if one.machine_id in self._by_gateway]
        records = list(self._records(one for one in step if one.machine_id not in self._by_gateway))
        acks = [await producer.send(topics.PINGS, value, key=key) for key, value in records]
        _, accepted = await asyncio.gather(asyncio.gather(*acks), self._post(client, posted))
        self.acknowledged += len(acks) + accepted

    def _records(self, deliveries: Iterator[Delivery]) -> Iterator[tuple[bytes, bytes]]:
        """(key, value), and now and then one more that is no good."""
        for one in deliveries:
            key, value = one.machine_id.encode(), _encode(one.ping)
            yield key, value
            if next(self._numbers) % BAD_EVERY == 0:
                yield key, value[:-1]

    async def _post(self, client: httpx.AsyncClient, posted: Sequence[Delivery]) -> int:
        """How many the gateway took."""
        if not posted or (address := self._gateway()) is None:
            return 0
        with suppress(httpx.HTTPError):
            answer = await client.post(f"{address}/v1/pings", content=_encode([one.ping for one in posted]))
            if answer.status_code == httpx.codes.ACCEPTED:
                return len(posted)
        self.unanswered += 1
        return 0


class People:
    """Those who ask the API, all day long. `answers`: how many of each status, 0 where there was none."""

    def __init__(self, api: Address, key: str, fleet: Fleet) -> None:
        self._api = api
        self._headers = {"Authorization": f"Bearer {key}"}
        self._machine_ids = cycle(machine.machine_id for machine in fleet.machines)
        begin = fleet.spec.start
        self._span = f"from={_text(begin)}&to={_text(begin + timedelta(days=LOOKED_AT_DAYS))}"
        self.answers: Counter[int] = Counter()

    async def work(self) -> None:
        """Until it is cancelled."""
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=30) as client,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._look(client))
            group.create_task(self._inspect(client))
            group.create_task(self._listen(client))

    async def _look(self, client: httpx.AsyncClient) -> None:
        """Pages and machines."""
        for page in cycle(PAGES):
            machine_id = next(self._machine_ids)
            for path in (page, f"machines/{machine_id}", f"machines/{machine_id}/pings?{self._span}"):
                await self._ask(client, "GET", path)
            await asyncio.sleep(PEOPLE_PAUSE_S)

    async def _inspect(self, client: httpx.AsyncClient) -> None:
        """An inspection a second is said to be done, be it due or not."""
        for milestone_h in cycle(MILESTONES_H):
            body = {"milestone_h": milestone_h, "performed_at": _text(datetime.now(UTC))}
            await self._ask(client, "POST", f"machines/{next(self._machine_ids)}/inspections", body)
            await asyncio.sleep(PEOPLE_PAUSE_S)

    async def _listen(self, client: httpx.AsyncClient) -> None:
        """Reads the stream to its end, and again: a browser that was left open."""
        while True:
            with suppress(httpx.HTTPError):
                async with client.stream("GET", f"{self._api()}/v1/{STREAM}") as answer:
                    self.answers[answer.status_code] += 1
                    async for _ in answer.aiter_bytes():
                        pass
            await asyncio.sleep(PEOPLE_PAUSE_S)

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        status = 0
        with suppress(httpx.HTTPError):
            status = (await client.request(method, f"{self._api()}/v1/{path}", json=body)).status_code
        self.answers[status] += 1


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
