"""`up`, the single roles, and `migrate`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import structlog
import typer
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.app import Role, Service, Wiring, kafka_settings, wiring_for
from telemetry_svc.cli.addresses import KEYS_FILE, Addresses, keyring_text, resolve
from telemetry_svc.cli.running import run, run_until_stopped, settings_with_logs, unless_stopped
from telemetry_svc.embedded import EmbeddedServices, start_embedded
from telemetry_svc.ingest.editions import refuse_unloaded
from telemetry_svc.policies import load_policies
from telemetry_svc.privacy import BadKeyringError, Keyring
from telemetry_svc.rules import Policy
from telemetry_svc.settings import Settings
from telemetry_svc.store import contacts, keys
from telemetry_svc.store.engine import create_engine, driver_url
from telemetry_svc.store.identity import note_first
from telemetry_svc.store.keys import KeyBinding
from telemetry_svc.store.keys import Role as KeyRole
from telemetry_svc.store.layout import keep_layout
from telemetry_svc.store.migrate import COMMAND_TIMEOUT_S, head_revision, newer_revision, upgrade
from telemetry_svc.stream.topics import ensure_topics
from telemetry_svc.telemetry import EditionId

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
EMBEDDED_REPLICATION = 1
ALL_ROLES = frozenset(Role)


class Up(Struct, frozen=True):
    """A whole service in this process: its parts, its addresses, and the key it has just made, if any."""

    parts: EmbeddedServices
    addresses: Addresses
    service: Service
    address: str
    new_key: str | None
    policies: Mapping[EditionId, Policy]


class Migrated(Struct, frozen=True):
    """What `migrate_all` did: the topics that it made, and why it left the database alone, if it did."""

    topics: list[str]
    left_alone: str | None


def _as_it_is(wiring: Wiring, home: Path) -> Wiring:  # noqa: ARG001 - what the demo changes by its directory
    return wiring


def serve_commands(app: typer.Typer) -> None:
    """Adds the commands that run until they are stopped, and `migrate`."""

    @app.command()
    def up() -> None:
        """Run everything: an embedded PostgreSQL and Kafka where none is set, all roles, one port."""
        settings = settings_with_logs()
        run_until_stopped(lambda stop: _up(settings, stop), settings.grace_s)

    for role, what in _ROLE_HELP.items():
        _add_role(app, role, what)

    @app.command()
    def migrate() -> None:
        """Bring database and topics to the current version; safe to repeat."""
        settings = settings_with_logs()
        migrated = run(migrate_all(settings, resolve(settings)))
        whole = migrated.left_alone or "database and topics are at the current version"
        typer.echo(f"{whole}{_made(migrated.topics)}")


_ROLE_HELP = {
    Role.GATEWAY: "Run the gateway: devices post pings over HTTP, the broker acknowledges them.",
    Role.INGEST: "Run ingest: pings and commands become history, states, events and alerts.",
    Role.NOTIFY: "Run notify: alerts become call tasks.",
    Role.SCHEDULE: "Run the scheduler: ticks, partitions ahead of time, clearing up.",
    Role.API: "Run the API: machines, alerts and the call queue over HTTP.",
}


def _add_role(app: typer.Typer, role: Role, what: str) -> None:
    @app.command(role.value, help=what)
    def one_role() -> None:
        settings = settings_with_logs()
        addresses = resolve(settings)
        run_until_stopped(lambda stop: _one_role(settings, addresses, role, stop), settings.grace_s)


async def _one_role(settings: Settings, addresses: Addresses, role: Role, stop: asyncio.Event) -> None:
    service = Service(wiring_of(settings, addresses, frozenset({role})))
    typer.echo(f"{role.value} serves {service.listen()}")
    await service.run(stop)


def wiring_of(settings: Settings, addresses: Addresses, roles: frozenset[Role]) -> Wiring:
    """What a process of these roles is built from, at these addresses."""
    return wiring_for(
        settings,
        roles,
        database_url=addresses.database_url,
        kafka_bootstrap=addresses.kafka_bootstrap,
        keys=addresses.keys,
    )


async def _up(settings: Settings, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as started:
        start = started.enter_async_context(starting(settings, settings.data_dir, fresh=False))
        if (one := await unless_stopped(stop, start)) is not None:
            typer.echo(where_to_look(one))
            await run_with_parts(one, stop)


async def run_with_parts(one: Up, stop: asyncio.Event) -> None:
    """Runs the service until `stop`; ends with `PartDied` where one of its servers does."""
    watching = asyncio.create_task(one.parts.watch())
    serving = asyncio.create_task(one.service.run(stop))
    await asyncio.wait([watching, serving], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        stop.set()
        await asyncio.wait([serving])
    watching.cancel()
    await serving
    with suppress(asyncio.CancelledError):
        await watching


@asynccontextmanager
async def starting(
    settings: Settings, home: Path, *, fresh: bool, furnished: Callable[[Wiring, Path], Wiring] = _as_it_is
) -> AsyncIterator[Up]:
    """Starts the servers that are not set, migrates, builds the service, makes a first key; ends with the block.

    `furnished` may change what the service is built from.
    What can be refused is refused before the key is made: it is shown once, and must be.
    """
    _refuse_early(settings)
    async with start_embedded(
        home,
        postgres=settings.database_url is None,
        kafka=settings.kafka_bootstrap is None,
        fresh=fresh,
        progress=lambda line: typer.echo(line, err=True),
    ) as parts:
        url = settings.database_url.get_secret_value() if settings.database_url else parts.database_url
        made_keyring = settings.personal_data_keys is None and not (home / KEYS_FILE).exists()
        addresses = Addresses(
            database_url=url,
            kafka_bootstrap=settings.kafka_bootstrap or parts.kafka_bootstrap,
            keys=keyring_text(settings, home),
            embedded_broker=settings.kafka_bootstrap is None,
        )
        migrated = await migrate_all(settings, addresses)
        if migrated.left_alone is not None:
            typer.echo(migrated.left_alone, err=True)
        if made_keyring:
            await _refuse_sealed_by_another(addresses, home)
        host = settings.http_host if await _has_keys(addresses) else LOOPBACK
        wiring = furnished(wiring_of(settings.model_copy(update={"http_host": host}), addresses, ALL_ROLES), home)
        service = Service(wiring)
        await refuse_unloaded(service.engine, wiring.policies)
        address = service.listen()
        parts.announce(address)
        new_key = await _first_key(addresses)
        yield Up(parts, addresses, service, address, new_key, wiring.policies)


def _refuse_early(settings: Settings) -> None:
    """What no server is needed to see."""
    if settings.policy_dir is not None:
        load_policies(settings.policy_dir)
    if settings.database_url is not None:
        driver_url(settings.database_url.get_secret_value())
    if settings.personal_data_keys is not None:
        Keyring.parse(settings.personal_data_keys.get_secret_value())


async def _refuse_sealed_by_another(addresses: Addresses, home: Path) -> None:
    """A keyring that was just made opens nothing: where names lie sealed already, theirs must be put back."""
    async with _keys_of(addresses) as connection:
        if await contacts.any_sealed(connection):
            (home / KEYS_FILE).unlink()
            raise BadKeyringError(
                f"the database holds sealed names, and {home / KEYS_FILE} is gone: put it back, or set the keyring"
            )


async def migrate_all(settings: Settings, addresses: Addresses) -> Migrated:
    """Database first, then topics. What a later version has made of the database serves this one as well."""
    engine = create_engine(
        addresses.database_url, application_name="telemetry-migrate", command_timeout_s=COMMAND_TIMEOUT_S
    )
    try:
        newer = await newer_revision(engine)
        if newer is None:
            await upgrade(engine)
        replication = EMBEDDED_REPLICATION if addresses.embedded_broker else settings.topic_replication
        made, counts = await ensure_topics(kafka_settings(settings, addresses.kafka_bootstrap), replication=replication)
        async with engine.begin() as connection:
            await keep_layout(connection, counts)
            await note_first(connection)
    finally:
        await engine.dispose()
    return Migrated(made, None if newer is None else _left_alone(newer))


def _left_alone(newer: str) -> str:
    return f"the database is newer ({newer}) than this code knows ({head_revision()}): left as it is"


async def _has_keys(addresses: Addresses) -> bool:
    async with _keys_of(addresses) as connection:
        return bool(await keys.list_all(connection))


async def _first_key(addresses: Addresses) -> str | None:
    """A first admin key where the database has no key yet; it is shown once."""
    async with _keys_of(addresses) as connection:
        if await keys.list_all(connection):
            return None
        return await keys.create(connection, KeyBinding(KeyRole.ADMIN))


@asynccontextmanager
async def _keys_of(addresses: Addresses) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(addresses.database_url, application_name="telemetry-keys")
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


def where_to_look(one: Up) -> str:
    """What a person needs to know after the start."""
    lines = [
        "telemetry-svc is up",
        f"  HTTP        {one.address}   (OpenAPI at /openapi.json, metrics at /metrics)",
        f"  Kafka       {one.addresses.kafka_bootstrap}",
        f"  data        {one.parts.data_dir}",
    ]
    if one.new_key is not None:
        lines += [f"  admin key   {one.new_key}", "              shown once; `telemetry-svc keys create` makes others"]
    return "\n".join(lines)


def _made(topics: list[str]) -> str:
    return f"; made {', '.join(topics)}" if topics else ""
