"""`demo`: the whole service with a simulated fleet, in a directory of its own, watched live.

The fleet lives in the past: it starts some months before now, is sent as fast as ingest keeps up until it reaches now,
and goes on at the pace of the clock. `--pings N --exit` is a bounded run that prints what came of it.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from telemetry_svc.app import kafka_settings
from telemetry_svc.cli.addresses import DEMO_DIR
from telemetry_svc.cli.demo_edition import in_seconds
from telemetry_svc.cli.demo_view import Snapshot, line_of, machines_known, picture_of, snapshot, story_of
from telemetry_svc.cli.demo_visits import Visits
from telemetry_svc.cli.running import run_until_stopped, settings_with_logs, unless_stopped
from telemetry_svc.cli.sending import ping_producer
from telemetry_svc.cli.serve import Up, run_with_parts, starting, where_to_look
from telemetry_svc.cli.simulated import register_fleet
from telemetry_svc.clock import SystemClock, pause
from telemetry_svc.settings import Settings, SettingsError
from telemetry_svc.simulate.delivery import Delivery, iter_deliveries
from telemetry_svc.simulate.demo import demo_fleet, demo_works
from telemetry_svc.simulate.fleet import EXPERTS
from telemetry_svc.topics import PINGS

CHUNK = 250
MAX_BEHIND = 5_000
LOOK_EVERY_S = 1.0
SETTLE_TIMEOUT_S = 120.0
MOST_PINGS = 10_000_000


def demo_command(
    pings: Annotated[int | None, typer.Option(min=1, max=MOST_PINGS, help="send so many pings and no more")] = None,
    exit_: Annotated[bool, typer.Option("--exit", help="end when all is ingested, raised and queued")] = False,
    seed: Annotated[int, typer.Option(help="the same seed is the same fleet")] = 1,
) -> None:
    """Run everything with a simulated fleet and watch it; its directory is emptied at each start."""
    settings = settings_with_logs(**_quiet_logs())
    _refuse_other_servers(settings)
    run_until_stopped(lambda stop: _demo(settings, stop, seed=seed, pings=pings, ends=exit_), settings.grace_s)


def _refuse_other_servers(settings: Settings) -> None:
    """Its fleet would be registered among real machines. Raises `SettingsError`."""
    given = {"TELEMETRY_DATABASE_URL": settings.database_url, "TELEMETRY_KAFKA_BOOTSTRAP": settings.kafka_bootstrap}
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise SettingsError(f"{' and '.join(named)} must not be set: the demo runs on servers and data of its own only")


def _quiet_logs() -> dict[str, str]:
    """People watch a demo: the log speaks up only when something is wrong, and as text."""
    return {"log_level": "WARNING", "log_format": "console"}


async def _demo(settings: Settings, stop: asyncio.Event, *, seed: int, pings: int | None, ends: bool) -> None:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        home = settings.data_dir / DEMO_DIR
        start = stack.enter_async_context(starting(settings, home, fresh=True, furnished=in_seconds))
        if (one := await unless_stopped(stop, start)) is None:
            return
        typer.echo(where_to_look(one))
        typer.echo(_try_this(one))
        serving = asyncio.create_task(run_with_parts(one, stop))
        try:
            await _show(one, settings, stop, seed=seed, pings=pings, ends=ends, started=started)
        finally:
            stop.set()
            await serving


async def _show(
    one: Up, settings: Settings, stop: asyncio.Event, *, seed: int, pings: int | None, ends: bool, started: float
) -> None:
    clock = SystemClock()
    fleet = demo_fleet(seed, clock.now())
    await register_fleet(one.service, fleet)
    while not stop.is_set() and await machines_known(one.service.engine) < len(fleet.plans):
        await pause(stop, 0.1)
    feeder = Feeder(one, settings, pings)
    feeding = asyncio.create_task(feeder.run(iter_deliveries(fleet), stop))
    watcher = Watcher(one, feeder, Visits(one.service.engine, demo_works(fleet), clock), started)
    try:
        await watcher.run(stop, ends=ends)
    finally:
        stop.set()
        await feeding


def _try_this(one: Up) -> str:
    """Commands to paste. The expert is one of the fleet's own: a call is offered to the machine's expert first."""
    curl = f"curl -H 'Authorization: Bearer {one.new_key or 'KEY'}'"
    claim = f"-H 'Content-Type: application/json' -d '{json.dumps({'expert_id': EXPERTS[0], 'max': 1})}'"
    return (
        f"  look        {curl} {one.address}/v1/alerts\n"
        f"  take a call {curl} {claim} {one.address}/v1/calls/claim\n"
        "  Ctrl-C ends it\n"
    )


class Feeder:
    """Sends the fleet's deliveries: fast while they lie in the past, at the pace of the clock from then on."""

    def __init__(self, one: Up, settings: Settings, most: int | None) -> None:
        self._kafka = kafka_settings(settings, one.addresses.kafka_bootstrap)
        self._most = most
        self._clock = SystemClock()
        self._chunk: list[asyncio.Future[object]] = []
        self.sent = 0
        self.stored = 0
        self.at: datetime | None = None
        self.done = False

    async def run(self, deliveries: Iterator[Delivery], stop: asyncio.Event) -> None:
        """Returns when the fleet or the number of pings is used up, or at `stop`."""
        encode = msgspec.json.Encoder().encode
        async with ping_producer(self._kafka) as producer:
            for delivery in deliveries:
                if stop.is_set() or (self._most is not None and self.sent + len(self._chunk) >= self._most):
                    break
                if len(self._chunk) >= CHUNK or delivery.at > self._clock.now():
                    await self._flush(delivery.at, stop)
                ack = await producer.send(PINGS, encode(delivery.ping), key=delivery.machine_id.encode())
                self._chunk.append(ack)
                self.at = delivery.at
            await asyncio.gather(*self._chunk)
            self.sent += len(self._chunk)
        self.done = True

    async def _flush(self, until: datetime, stop: asyncio.Event) -> None:
        """Waits for the acknowledgements, for ingest to keep up, and for the clock."""
        await asyncio.gather(*self._chunk)
        self.sent += len(self._chunk)
        self._chunk.clear()
        while not stop.is_set() and (self.sent - self.stored > MAX_BEHIND or until > self._clock.now()):
            await pause(stop, 0.05)


class Watcher:
    """Looks into the database once a second and tells what came in, was raised and is queued.

    What it sees is also what the demo's experts wait for before they report a visit.
    """

    def __init__(self, one: Up, feeder: Feeder, visits: Visits, started: float) -> None:
        self._one = one
        self._feeder = feeder
        self._visits = visits
        self._started = started
        self._told: set[str] = set()
        self._console = Console()

    async def run(self, stop: asyncio.Event, *, ends: bool) -> None:
        """Shows a live picture on a terminal, and plain lines elsewhere. With `ends` it returns when all is settled."""
        with Live(console=self._console, auto_refresh=False, transient=True, screen=False) as live:
            while not stop.is_set():
                seen = await self._look(live.console)
                reported = await self._visits.report()
                if self._console.is_terminal:
                    live.update(picture_of(seen, self._feeder.sent, self._feeder.at, self._one.policies), refresh=True)
                elif not ends:
                    typer.echo(line_of(seen, self._feeder.sent, self._feeder.at))
                if ends and self._feeder.done and not reported and seen.settled(self._feeder.sent):
                    break
                await pause(stop, LOOK_EVERY_S)
        seen = await self._look(self._console)
        typer.echo(story_of(seen, self._one.policies))
        typer.echo(line_of(seen, self._feeder.sent, self._feeder.at))

    async def _look(self, console: Console) -> Snapshot:
        seen = await snapshot(self._one.service.engine)
        self._feeder.stored = seen.stored + seen.repeated
        for what, there in (("alert", seen.alerts), ("call", seen.tasks)):
            if there and what not in self._told:
                self._told.add(what)
                console.print(f"first {what} after {time.monotonic() - self._started:.1f} s", highlight=False)
        return seen
