"""Sends a fleet's pings as the world does, some by way of the gateway, and writes each down before and after.

Journalled before it is sent and again when the broker, or the gateway for it, has acknowledged it. Now and then a
record comes that must become a dead letter amid its healthy neighbours.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc import topics
from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.stream.kafka import KafkaSettings, client_options
from tests.chaos.records import PingKey, Sent

STEP_S = 0.02
AT_ONCE = 500
BY_GATEWAY_EVERY = 4
"""Each machine with such a number sends by way of the gateway."""
GATEWAY_BATCH = 20
BAD_EVERY = 150
PATIENCE_MS = 120_000
RETRY_S = 0.2
HEADERS = [("trace", None)]
"""As somebody's bridge may send them."""


class Parcel(Struct, frozen=True):
    """A record on its way: `key` of the record, its bytes, and what the journal says of it."""

    machine_id: str
    value: bytes
    sent: Sent
    by_gateway: bool = False


class JournalBook:
    """What was sent, in order, in memory and as lines of a file that survive this process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._sent: list[Sent] = []

    def about_to_send(self, sent: Sent) -> int:
        """Returns its number."""
        self._sent.append(sent)
        self._write({"sends": len(self._sent), "digest": sent.digest, "key": sent.key, "class": sent.error_class})
        return len(self._sent) - 1

    def was_acknowledged(self, number: int) -> None:
        self._sent[number] = replace(self._sent[number], acknowledged=True)
        self._write({"acknowledged": number + 1})

    def entries(self) -> tuple[Sent, ...]:
        return tuple(self._sent)

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()


class Pace:
    """How many may go now. The less is left, the slower it goes, so there is always something left until `hurry`.

    About two thirds of the pings are sent within `lasts_s`; `burst` lets some go at once, at most a tenth of what is
    left: on a busy machine a fault is stirred for longer, and the last one needs some, too.
    """

    def __init__(self, pings: int, lasts_s: float) -> None:
        self._left = float(pings)
        self._share_per_s = 1 / lasts_s
        self._credit = 0.0
        self._at = time.monotonic()
        self._hurried = False

    def burst(self, count: int) -> None:
        self._credit += min(count, self._left / 10)

    def hurry(self) -> None:
        self._hurried = True

    async def step(self) -> int:
        """Waits a moment; how many may go now."""
        await asyncio.sleep(0 if self._hurried else STEP_S)
        now = time.monotonic()
        self._credit += self._left * min(1.0, (now - self._at) * self._share_per_s)
        self._at = now
        whole = AT_ONCE if self._hurried else int(self._credit)
        self._credit = max(0.0, self._credit - whole)
        self._left = max(0.0, self._left - whole)
        return whole


def parcels(deliveries: Sequence[Delivery]) -> Iterator[Parcel]:
    """The deliveries in order, and the bad records between them."""
    machines = sorted({one.machine_id for one in deliveries})
    by_gateway = set(machines[::BY_GATEWAY_EVERY])
    encode = msgspec.json.Encoder().encode
    for number, one in enumerate(deliveries):
        value = encode(one.ping)
        yield Parcel(one.machine_id, value, Sent(digest_of(value), key_of(one)), one.machine_id in by_gateway)
        if number % BAD_EVERY == BAD_EVERY - 1:
            yield _bad(number, one.machine_id)


def digest_of(value: bytes) -> str:
    """What finds a record's bytes again."""
    return hashlib.sha256(value).hexdigest()[:24]


def key_of(delivery: Delivery) -> PingKey:
    """What tells its ping apart from all others."""
    ping = delivery.ping
    hours_h = ping.get("hour_meter_h")
    recorded_at = datetime.fromisoformat(str(ping["recorded_at"])).astimezone(UTC)
    sequence = ping.get("sequence")
    return (
        delivery.machine_id,
        recorded_at,
        round(hours_h * 100) if isinstance(hours_h, float | int) else None,
        bool(ping["engine_running"]) if "engine_running" in ping else None,
        sequence if isinstance(sequence, int) else None,
    )


def _bad(number: int, machine_id: str) -> Parcel:
    """One record of each class in turn, each with bytes of its own; keyed by a machine that lives next door."""
    told = f'"n":{number},"machine_id":"{machine_id}"'
    recorded = '"recorded_at":"2026-11-01T00:00:00Z","hour_meter_h":1'
    nul = "\\u0000"
    kinds = (
        ("malformed", f"{{{told},{recorded}"),
        ("malformed", f'{{{told},{recorded},"x":NaN}}'),
        ("invalid", f'{{{told},"recorded_at":"2026-11-01T00:00:00","hour_meter_h":1}}'),
        ("invalid", f'{{{told},{recorded},"device_id":"a{nul}"}}'),
        ("unknown_machine", f'{{"n":{number},"machine_id":"STRANGER",{recorded}}}'),
        ("key_mismatch", f'{{"n":{number},"machine_id":"SOMEBODY-ELSE",{recorded}}}'),
    )
    error_class, text = kinds[number // BAD_EVERY % len(kinds)]
    key = "STRANGER" if error_class == "unknown_machine" else machine_id
    value = text.encode()
    return Parcel(key, value, Sent(digest_of(value), error_class=error_class))


def producer_of(kafka: KafkaSettings) -> AIOKafkaProducer:
    """A producer that outwaits every fault, once it has started: starting is no part of a storm."""
    options = client_options(kafka, "chaos") | {"request_timeout_ms": PATIENCE_MS}
    return AIOKafkaProducer(**options, acks="all", enable_idempotence=True, linger_ms=2)


class Traffic:
    """Sends parcels until all are acknowledged. `gateway` tells where it serves now, None while it does not."""

    def __init__(
        self, producer: AIOKafkaProducer, gateway: Callable[[], str | None], key: str, book: JournalBook, pace: Pace
    ) -> None:
        self._producer = producer
        self._gateway = gateway
        self._key = key
        self._book = book
        self._pace = pace
        self._waiting: set[asyncio.Future[object]] = set()
        self._by_gateway: asyncio.Queue[Parcel | None] = asyncio.Queue()

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        posting = asyncio.create_task(self._post_all())
        going = parcels(deliveries)
        while True:
            for _ in range(await self._pace.step()):
                parcel = next(going, None)
                if parcel is None:
                    break
                await self._send_one(parcel)
            else:
                continue
            break
        self._by_gateway.put_nowait(None)
        await asyncio.gather(posting, *self._waiting)

    async def _send_one(self, parcel: Parcel) -> None:
        if parcel.by_gateway:
            self._by_gateway.put_nowait(parcel)
            return
        number = self._book.about_to_send(parcel.sent)
        ack = await self._producer.send(topics.PINGS, parcel.value, key=parcel.machine_id.encode(), headers=HEADERS)
        self._waiting.add(ack)
        ack.add_done_callback(lambda done: self._acknowledged(done, number))

    def _acknowledged(self, done: "asyncio.Future[object]", number: int) -> None:
        self._waiting.discard(done)
        if not done.cancelled() and done.exception() is None:
            self._book.was_acknowledged(number)

    async def _post_all(self) -> None:
        async with httpx.AsyncClient(timeout=30, headers={"Authorization": f"Bearer {self._key}"}) as client:
            while (first := await self._by_gateway.get()) is not None:
                batch = [first]
                while len(batch) < GATEWAY_BATCH and not self._by_gateway.empty():
                    following = self._by_gateway.get_nowait()
                    if following is None:
                        self._by_gateway.put_nowait(None)
                        break
                    batch.append(following)
                await self._post(client, batch)

    async def _post(self, client: httpx.AsyncClient, batch: list[Parcel]) -> None:
        """Again and again until the gateway says that the broker has them, as a device does."""
        numbers = [self._book.about_to_send(parcel.sent) for parcel in batch]
        body = b"[" + b",".join(parcel.value for parcel in batch) + b"]"
        while (verdicts := await self._verdicts(client, body)) is None:  # noqa: ASYNC110 - it is asked for each time
            await asyncio.sleep(RETRY_S)
        assert verdicts == ["accepted"] * len(batch), verdicts
        for number in numbers:
            self._book.was_acknowledged(number)

    async def _verdicts(self, client: httpx.AsyncClient, body: bytes) -> list[str] | None:
        """What became of each ping; None where the gateway did not say that the broker has them."""
        address = self._gateway()
        if address is None:
            return None
        try:
            answer = await client.post(f"{address}/v1/pings", content=body)
        except httpx.HTTPError:
            return None
        if answer.status_code != httpx.codes.ACCEPTED:
            return None
        return [verdict["status"] for verdict in answer.json()["verdicts"]]
