"""The composition root: the only place that builds things and ties them together. Tests call it too.

`Roles` names what this process does; `run` builds just that on the addresses it is given, serves HTTP for it on one
port and ends cleanly when `stop` is set.
"""

import asyncio
import socket
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from msgspec import Struct
from prometheus_client import CollectorRegistry

from telemetry_svc import topics
from telemetry_svc.api import create_router as api_router
from telemetry_svc.api.calls import CallParts
from telemetry_svc.api.calls import create_router as calls_router
from telemetry_svc.api.registration import Desk as RegistrationDesk
from telemetry_svc.api.registration import time_zones
from telemetry_svc.clock import Clock, SystemClock, pause
from telemetry_svc.gateway.producer import KafkaPingSink
from telemetry_svc.gateway.routes import GatewayMetrics
from telemetry_svc.gateway.routes import create_router as gateway_router
from telemetry_svc.ingest.editions import EditionNotLoaded, refuse_unloaded
from telemetry_svc.ingest.handler import IngestHandler
from telemetry_svc.ingest.metrics import IngestMetrics
from telemetry_svc.logs import Trouble
from telemetry_svc.notify.claims import CallDesk
from telemetry_svc.notify.handler import NotifyHandler
from telemetry_svc.notify.notifier import Notifier
from telemetry_svc.notify.queues import Queues
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import Keyring
from telemetry_svc.rules import Policy
from telemetry_svc.schedule import ScheduleMetrics, Scheduler
from telemetry_svc.settings import Settings
from telemetry_svc.store.engine import create_engine, dispose
from telemetry_svc.store.history import make_weeks, weeks_around
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.handler import Handler
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.metrics import ConsumerFamilies, ConsumerMetrics, RelayMetrics, outbox_waiting
from telemetry_svc.stream.pressure import Pressure
from telemetry_svc.stream.progress import Progress
from telemetry_svc.stream.relay import OutboxRelay
from telemetry_svc.stream.topics import BrokerUnavailable, LayoutError, WrongClockError, agreed_partitions
from telemetry_svc.stream.wake import listen
from telemetry_svc.telemetry import EditionId
from telemetry_svc.vitals import Members, database_ready
from telemetry_svc.watchdog import Watchdog, cut_off
from telemetry_svc.web import Authenticator, Check, Health, create_app
from telemetry_svc.web.server import listening, serve

log = structlog.get_logger(__name__)

DEFAULT_EDITION = EditionId("zoomlion-2011-rev1")
SWEEP_EVERY_S = 1.0
WEEKS_EVERY_S = 3_600.0
TOPICS_EVERY_S = 60.0
RETRY_S = 1.0
FINISHING_SHARE = 0.4
"""Of the grace time: so long a loop may finish what it holds. Then it is cut off, for leaving the group and closing the
connections may take ten seconds more."""
NOT_THERE_YET: tuple[type[Exception], ...] = (BrokerUnavailable, *DATABASE_ERRORS)


class Role(StrEnum):
    """What a process may be; `up` is all of them."""

    GATEWAY = "gateway"
    INGEST = "ingest"
    NOTIFY = "notify"
    SCHEDULE = "schedule"
    API = "api"


REFUSALS = (LayoutError, EditionNotLoaded)
"""What stops a process that has begun to run, in one line: it would do harm."""


class Wiring(Struct, frozen=True):
    """What a process is built from: addresses, policies, keys and a clock. No role reads a setting by itself."""

    roles: frozenset[Role]
    database_url: str
    kafka: KafkaSettings
    policies: Mapping[EditionId, Policy]
    keyring: Keyring
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    grace_s: float = 25.0
    clock: Clock = SystemClock()
    tick_every: timedelta = timedelta(minutes=1)


class Service:
    """One process: its parts are built at construction, and run by `run`. Nothing connects before that."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self.engine = create_engine(wiring.database_url, application_name=_name_of(wiring.roles))
        self.registry = CollectorRegistry()
        self._families = ConsumerFamilies(self.registry)
        self._queues = Queues(
            {edition: policy.call_queue for edition, policy in wiring.policies.items()}, DEFAULT_EDITION
        )
        self._calls = CallDesk(self._queues, wiring.keyring)
        self.registration = RegistrationDesk(
            keyring=wiring.keyring,
            clock=wiring.clock,
            editions=frozenset(wiring.policies),
            default_edition=DEFAULT_EDITION,
            zones=time_zones(),
            contacts_changed=self._calls.contacts_changed,
        )
        self._sink = KafkaPingSink(wiring.kafka)
        self._members = Members(len(wiring.roles & {Role.INGEST, Role.NOTIFY}))
        self._watchdog = Watchdog()
        self._pressure = Pressure(self.engine, outbox_waiting(self.registry))
        self._no_history = Trouble(log)
        self._stopping = asyncio.Event()
        self.app = self._http_app()
        self._socket: socket.socket | None = None

    def listen(self) -> str:
        """Takes the HTTP port and returns the address, to be told before anything runs. Raises `PortTaken`."""
        if self._socket is None:
            self._socket = listening(self._wiring.http_host, self._wiring.http_port)
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run(self, stop: asyncio.Event) -> None:
        """Runs every loop of the process's roles until `stop` is set, then lets each finish what it holds, in time."""
        self.listen()
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._serve_http(stop))
                working = [loops.create_task(loop) for loop in self._loops(stop)]
                loops.create_task(cut_off(working, stop, self._wiring.grace_s * FINISHING_SHARE))
        except BaseExceptionGroup as group:
            refusal = group.subgroup(REFUSALS)
            raise _leaf(refusal) if refusal is not None else group from None
        finally:
            if self._socket is not None:
                self._socket.close()
            await self._sink.close()
            await dispose(self.engine)

    def _loops(self, stop: asyncio.Event) -> Iterator[Coroutine[None, None, None]]:
        roles = self._wiring.roles
        yield self._watchdog.run(stop)
        if Role.INGEST in roles:
            yield self._ingest(stop)
        if Role.NOTIFY in roles:
            yield self._notify(stop)
            yield self._sweep(stop)
        if roles & {Role.INGEST, Role.NOTIFY}:
            relay = OutboxRelay(kafka=self._wiring.kafka, engine=self.engine, metrics=RelayMetrics(self.registry))
            yield relay.run(stop)
            yield listen(self._wiring.database_url, relay.wake, stop)
            yield self._pressure.watch(stop)
        if Role.SCHEDULE in roles:
            yield self._schedule(stop)
        if groups := list(self._groups()):
            yield self._watch_topics(groups, stop)

    def _groups(self) -> Iterator[str]:
        """Whose topics must stay spread as they are."""
        if self._wiring.roles & {Role.INGEST, Role.SCHEDULE}:
            yield topics.INGEST_GROUP
        if Role.NOTIFY in self._wiring.roles:
            yield topics.NOTIFY_GROUP

    async def _schedule(self, stop: asyncio.Event) -> None:
        partitions = await self._partitions(topics.INGEST_GROUP, stop)
        if partitions is not None:
            wiring, metrics = self._wiring, ScheduleMetrics(self.registry)
            await Scheduler(self.engine, wiring.clock, partitions, wiring.tick_every, metrics=metrics).run(stop)

    async def _partitions(self, group: str, stop: asyncio.Event) -> int | None:
        """Waits until broker and database agree on the group's topics; None where we were told to stop first."""
        trouble = Trouble(log)
        while not stop.is_set():
            try:
                partitions = await agreed_partitions(self._wiring.kafka, self.engine, group)
            except NOT_THERE_YET as error:
                trouble.lasts("broker or database not there yet, trying again", reason=type(error).__name__)
            else:
                if partitions is not None:
                    trouble.over()
                    return partitions
                trouble.lasts("no topics yet: run `telemetry-svc migrate`")
            await pause(stop, RETRY_S)
        return None

    async def _watch_topics(self, groups: Sequence[str], stop: asyncio.Event) -> None:
        """Ends by a `LayoutError` where somebody spreads the topics anew under us; tells of another clock."""
        while not stop.is_set():
            await pause(stop, TOPICS_EVERY_S)
            for group in groups:
                await self._look_at_topics(group)

    async def _look_at_topics(self, group: str) -> None:
        try:
            await agreed_partitions(self._wiring.kafka, self.engine, group)
        except NOT_THERE_YET:
            return
        except WrongClockError as error:
            log.error("a topic was changed: mend it", fault=str(error))  # noqa: TRY400 - nothing failed in here

    async def _ingest(self, stop: asyncio.Event) -> None:
        partitions = await self._partitions(topics.INGEST_GROUP, stop)
        if partitions is None:
            return
        weeks = weeks_around(self._wiring.clock.now())
        handler = IngestHandler(
            policies=self._wiring.policies,
            partitions=partitions,
            weeks=weeks,
            metrics=IngestMetrics(self.registry),
            clock=self._wiring.clock,
            ends_of_pings=lambda numbers: member.ends_of_first(numbers),  # noqa: PLW0108 - each needs the other
        )
        member, progress = self._member(topics.INGEST_GROUP, handler)
        if not await self._prepared(handler, stop):
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(member.run(stop))
            group.create_task(progress.watch(stop))
            group.create_task(handler.lookout.watch(self.engine, stop))
            group.create_task(self._keep_weeks(handler, stop))

    async def _prepared(self, handler: IngestHandler, stop: asyncio.Event) -> bool:
        """Waits for the database and for partitions of history; False where we were told to stop first."""
        while not stop.is_set():
            try:
                await refuse_unloaded(self.engine, self._wiring.policies.keys())
            except DATABASE_ERRORS as error:
                self._no_history.lasts("no database yet, trying again", reason=type(error).__name__)
            else:
                if await self._make_weeks(handler):
                    return True
            await pause(stop, RETRY_S)
        return False

    async def _keep_weeks(self, handler: IngestHandler, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await pause(stop, WEEKS_EVERY_S)
            await self._make_weeks(handler)

    async def _make_weeks(self, handler: IngestHandler) -> bool:
        weeks = weeks_around(self._wiring.clock.now())
        try:
            async with self.engine.begin() as connection:
                await make_weeks(connection, weeks)
        except DATABASE_ERRORS as error:
            self._no_history.lasts("no partitions of history yet, trying again", reason=type(error).__name__)
            return False
        self._no_history.over()
        handler.weeks = weeks
        return True

    async def _notify(self, stop: asyncio.Event) -> None:
        if await self._partitions(topics.NOTIFY_GROUP, stop) is None:
            return
        handler = NotifyHandler(Notifier(self._queues), self._wiring.clock)
        member, progress = self._member(topics.NOTIFY_GROUP, handler)
        await asyncio.gather(member.run(stop), progress.watch(stop))

    async def _sweep(self, stop: asyncio.Event) -> None:
        """Leases that ran out come back, and tasks that waited long enough are offered."""
        trouble = Trouble(log)
        while not stop.is_set():
            try:
                async with self.engine.begin() as connection:
                    await self._calls.sweep(connection)
            except DATABASE_ERRORS as error:
                trouble.lasts("call tasks not swept, trying again", reason=type(error).__name__)
            else:
                trouble.over()
            await pause(stop, SWEEP_EVERY_S)

    def _member(self, group: str, handler: Handler[Any]) -> tuple[FencedConsumer, Progress]:
        member = FencedConsumer(
            kafka=self._wiring.kafka,
            engine=self.engine,
            group=group,
            topics=topics.READ_BY[group],
            handler=handler,
            metrics=ConsumerMetrics(self._families, group),
            held_back=partial(self._held_back, group),
        )
        progress = Progress(
            member,
            kafka=self._wiring.kafka,
            engine=self.engine,
            group=group,
            topics=topics.READ_BY[group],
            clock=self._wiring.clock,
        )
        self._members.add(member, progress)
        return member, progress

    def _held_back(self, group: str) -> str | None:
        pressure = self._pressure
        return pressure.reason or (pressure.restored if group == topics.NOTIFY_GROUP else None)

    def _http_app(self) -> FastAPI:
        return create_app(
            routers=list(self._routers()),
            authenticator=Authenticator.on(self.engine, self._wiring.clock),
            health=Health(live=self._live_checks(), ready=self._ready_checks()),
            registry=self.registry,
            version=version("telemetry-svc"),
        )

    def _routers(self) -> Iterator[APIRouter]:
        if Role.GATEWAY in self._wiring.roles:
            yield gateway_router(sink=self._sink, metrics=GatewayMetrics(self.registry))
        if Role.API in self._wiring.roles:
            yield api_router(
                engine=self.engine,
                desk=self.registration,
                policies=self._wiring.policies,
                stopping=self._stopping,
            )
            yield calls_router(CallParts(self.engine, self._calls, self._wiring.keyring))

    def _live_checks(self) -> dict[str, Check]:
        return {"loop": self._watchdog.check, "progress": self._members.progressing}

    def _ready_checks(self) -> dict[str, Check]:
        checks: dict[str, Check] = {"database": partial(database_ready, self.engine)}
        if Role.GATEWAY in self._wiring.roles:
            checks["broker"] = self._sink.check
        if self._wiring.roles & {Role.INGEST, Role.NOTIFY}:
            checks["assignment"] = self._members.reading
        return checks

    async def _serve_http(self, stop: asyncio.Event) -> None:
        assert self._socket is not None  # noqa: S101 - `run` has taken it
        end_within_s = int(min(5, self._wiring.grace_s))
        await serve(self.app, self._socket, stop, self._stopping, end_within_s=end_within_s)


def wiring_for(
    settings: Settings, roles: frozenset[Role], *, database_url: str, kafka_bootstrap: str, keys: str
) -> Wiring:
    """A wiring from settings and resolved addresses. Raises `PolicyError` and `BadKeyringError`."""
    return Wiring(
        roles=roles,
        database_url=database_url,
        kafka=kafka_settings(settings, kafka_bootstrap),
        policies=load_policies(settings.policy_dir),
        keyring=Keyring.parse(keys),
        http_host=settings.http_host,
        http_port=settings.http_port,
        grace_s=settings.grace_s,
    )


def kafka_settings(settings: Settings, bootstrap: str) -> KafkaSettings:
    """How to reach the broker at `bootstrap`."""
    password = settings.kafka_sasl_password
    return KafkaSettings(
        bootstrap=bootstrap,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=None if password is None else password.get_secret_value(),
        ssl_ca_file=settings.kafka_ssl_ca_file,
        ssl_cert_file=settings.kafka_ssl_cert_file,
        ssl_key_file=settings.kafka_ssl_key_file,
    )


def _leaf(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _name_of(roles: frozenset[Role]) -> str:
    return "telemetry-" + (next(iter(roles)) if len(roles) == 1 else "up")
