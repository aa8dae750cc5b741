"""`recover`: makes a restored database one that may go on (docs/recovery.md; faults.md, 48).

Offsets need nothing: they came back with the rows, and what is read again is known again. Calls do: what was told on
`excavator.calls` after the moment that the database was set back to is put back before any call is given out.
"""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer
from aiokafka import TopicPartition
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.app import DEFAULT_EDITION, kafka_settings
from telemetry_svc.cli.addresses import Addresses, resolve
from telemetry_svc.cli.moments import moment
from telemetry_svc.cli.running import run, settings_with_logs
from telemetry_svc.clock import SystemClock
from telemetry_svc.codec import cloudevent
from telemetry_svc.events import Alert
from telemetry_svc.notify import recovery
from telemetry_svc.notify.queues import Queues
from telemetry_svc.notify.recovery import Recovered, Told
from telemetry_svc.policies import load_policies
from telemetry_svc.settings import Settings
from telemetry_svc.store import identity
from telemetry_svc.store.call_tasks import last_change
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.gaps import Gap
from telemetry_svc.store.migrate import is_behind
from telemetry_svc.store.ownership import Offsets, stored_offsets
from telemetry_svc.store.recovery import Rewound, lower_xids, rewind
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.stream.reader import Edge, TopicReader
from telemetry_svc.stream.restamp import restamp
from telemetry_svc.stream.topics import agreed_partitions
from telemetry_svc.telemetry import MachineId

MARGIN = timedelta(hours=1)
"""Before the last change that the database knows: clocks differ, and the relay may have been behind."""


class NotToBeRecovered(RuntimeError):
    """What a person must decide or do first. The text says what."""


class Found(Struct, frozen=True):
    """How the database and the broker stand to each other: offsets of each group, and the edges of the topics."""

    stored: Mapping[str, Mapping[int, Offsets]]
    edges: Mapping[TopicPartition, Edge]

    def places(self) -> Iterator[tuple[str, TopicPartition, int, Edge]]:
        """Group, topic partition, stored offset and edges, of all that was ever read."""
        for group, names in topics.READ_BY.items():
            for number, offsets in sorted(self.stored[group].items()):
                for topic, offset in zip(names, offsets, strict=True):
                    pair = TopicPartition(topic, number)
                    yield group, pair, offset, self.edges.get(pair, Edge(0, 0))

    def ahead(self) -> list[tuple[str, TopicPartition, int, Edge]]:
        """Where the broker ends before what the database has read."""
        return [place for place in self.places() if place[2] > place[3].end]


def recover_command(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="RFC 3339 with an offset: take up what was told of calls from then on"),
    ] = None,
    broker_lost_records: Annotated[
        bool, typer.Option("--broker-lost-records", help="the broker's log is gone for good: read what it has anew")
    ] = False,
    producers_times: Annotated[
        bool, typer.Option("--producers-times", help="only give records with their producer's time the broker's")
    ] = False,
) -> None:
    """After a restore of the database: put back what was told of calls meanwhile, then let calls go out again.

    Run it once, with all roles stopped. A repeat changes nothing.
    """
    begin = None if since is None else moment(since, "--since", SystemClock().now())
    if producers_times and (since or broker_lost_records):
        raise typer.BadParameter("goes with no other option", param_hint="--producers-times")
    settings = settings_with_logs()
    addresses = resolve(settings)
    if producers_times:
        job = _restamp(settings, addresses)
    else:
        job = _recover(settings, addresses, begin, rewinding=broker_lost_records)
    for line in run(job):
        typer.echo(line)


async def _recover(settings: Settings, addresses: Addresses, since: datetime | None, *, rewinding: bool) -> list[str]:
    engine = create_engine(addresses.database_url, application_name="telemetry-recover", pool_size=2)
    blocks = {edition: policy.call_queue for edition, policy in load_policies(settings.policy_dir).items()}
    queues = Queues(blocks, DEFAULT_EDITION)
    try:
        if await is_behind(engine):
            raise NotToBeRecovered("run `telemetry-svc migrate` first")
        async with TopicReader(kafka_settings(settings, addresses.kafka_bootstrap)) as reader:
            found = await _found(engine, reader)
            lines = await _offsets(engine, found, rewinding=rewinding)
            async with engine.begin() as connection:
                await identity.begin_recovery(connection)
            lines += await _xids(engine)
            lines += await _calls(engine, reader, found, queues, since)
        async with engine.begin() as connection:
            await identity.end_recovery(connection)
        return [*lines, "calls are given out again"]
    finally:
        await engine.dispose()


async def _restamp(settings: Settings, addresses: Addresses) -> list[str]:
    """The topics of ingest, which alone has records of others' making."""
    kafka = kafka_settings(settings, addresses.kafka_bootstrap)
    engine = create_engine(addresses.database_url, application_name="telemetry-recover", pool_size=2)
    try:
        if await is_behind(engine):
            raise NotToBeRecovered("run `telemetry-svc migrate` first")
        return await restamp_unread(kafka, engine)
    finally:
        await engine.dispose()


async def restamp_unread(kafka: KafkaSettings, engine: AsyncEngine) -> list[str]:
    """What was done, a line for each partition. Raises `LayoutError`, `BrokerUnavailable`."""
    if (partitions := await agreed_partitions(kafka, engine)) is None:
        raise NotToBeRecovered("no topics yet: run `telemetry-svc migrate` first")
    async with engine.connect() as connection:
        stored = await stored_offsets(connection, topics.INGEST_GROUP)
    names = topics.READ_BY[topics.INGEST_GROUP]
    unread = {
        TopicPartition(name, number): stored.get(number, (0, 0))[place]
        for place, name in enumerate(names)
        for number in range(partitions)
    }
    done = await restamp(kafka, unread)
    return [
        f"{pair.topic} partition {pair.partition}: {one.copied} records copied, it begins at {one.begins} now"
        for pair, one in sorted(done.items())
    ] or ["no record that is still to be read has its producer's time"]


async def _found(engine: AsyncEngine, reader: TopicReader) -> Found:
    async with engine.connect() as connection:
        stored = {group: await stored_offsets(connection, group) for group in topics.READ_BY}
    return Found(
        stored, await reader.edges([*(name for names in topics.READ_BY.values() for name in names), topics.CALLS])
    )


async def _offsets(engine: AsyncEngine, found: Found, *, rewinding: bool) -> list[str]:
    ahead = found.ahead()
    if ahead and not rewinding:
        raise NotToBeRecovered(_ahead_text(ahead))
    if ahead:
        async with engine.begin() as connection:
            await rewind(connection, list(_rewound(found)), [_lost(pair, at, edge) for _, pair, at, edge in ahead])
    lines = [f"{pair.topic} {pair.partition}: read anew from {edge.begin}" for _, pair, _, edge in ahead]
    again = Counter[str]()
    for _, pair, offset, edge in found.places():
        again[pair.topic] += max(0, edge.end - max(offset, edge.begin))
        if edge.begin > offset:
            lines.append(f"{pair.topic} {pair.partition}: {offset} to {edge.begin} are gone, deleted by retention")
    return [*lines, *(f"{topic}: {count} records still to be read" for topic, count in again.items() if count)]


def _ahead_text(ahead: Sequence[tuple[str, TopicPartition, int, Edge]]) -> str:
    _, pair, offset, edge = ahead[0]
    return (
        f"{pair.topic} partition {pair.partition} ends at offset {edge.end}, but the database has read up to {offset}"
        f" ({len(ahead)} such in all): set TELEMETRY_KAFKA_BOOTSTRAP to the broker it was; if that one's log is gone"
        " for good, `telemetry-svc recover --broker-lost-records` reads what is there anew and notes the gap"
    )


def _rewound(found: Found) -> Iterator[Rewound]:
    moved = {(group, pair.partition) for group, pair, _, _ in found.ahead()}
    for group, number in sorted(moved):
        offsets = found.stored[group][number]
        edges = [found.edges.get(TopicPartition(topic, number), Edge(0, 0)) for topic in topics.READ_BY[group]]
        a, b = (edge.begin if at > edge.end else at for at, edge in zip(offsets, edges, strict=True))
        yield Rewound(group, number, (a, b))


def _lost(pair: TopicPartition, offset: int, edge: Edge) -> Gap:
    return Gap(pair.topic, pair.partition, edge.end, offset, f"the broker lost its log; read anew from {edge.begin}")


async def _xids(engine: AsyncEngine) -> list[str]:
    async with engine.begin() as connection:
        lowered = await lower_xids(connection)
    return [f"{lowered} rows had transaction ids of another server: old cursors are void"] if lowered else []


async def _calls(
    engine: AsyncEngine, reader: TopicReader, found: Found, queues: Queues, since: datetime | None
) -> list[str]:
    async with engine.connect() as connection:
        known = await last_change(connection)
    edges = {pair: edge for pair, edge in found.edges.items() if pair.topic == topics.CALLS}
    begin = since or (None if known is None else known - MARGIN)
    told = [one async for one in _told(reader, edges, await reader.since(edges, begin))]
    async with engine.connect() as connection:
        lost = await recovery.lost_among(connection, told)
    alerts = await _alerts_of(reader, found, lost.keys())
    recovered = []
    for machine_id, of_machine in lost.items():
        async with engine.begin() as connection:
            raised = alerts.get(machine_id, [])
            recovered.append(await recovery.recover_machine(connection, machine_id, of_machine, raised, queues))
    return list(_told_of(recovered, len(told)))


async def _told(
    reader: TopicReader, edges: Mapping[TopicPartition, Edge], starts: Mapping[TopicPartition, int]
) -> AsyncIterator[Told]:
    async for record in reader.read(starts, edges):
        told = recovery.told_by(record.value)
        if told is not None:
            yield told


async def _alerts_of(
    reader: TopicReader, found: Found, machines: Collection[MachineId]
) -> dict[MachineId, list[Alert]]:
    """Alerts that the restored database has not read yet: the reasons that it does not know are among them."""
    starts = {pair: offset for group, pair, offset, _ in found.places() if group == topics.NOTIFY_GROUP}
    for pair, edge in found.edges.items():
        if pair.topic in topics.READ_BY[topics.NOTIFY_GROUP]:
            starts.setdefault(pair, edge.begin)
    alerts: dict[MachineId, list[Alert]] = {}
    async for record in reader.read(starts, found.edges):
        alert = cloudevent.decode(record.value)
        if isinstance(alert, Alert) and alert.machine_id in machines:
            alerts.setdefault(alert.machine_id, []).append(alert)
    return alerts


def _told_of(recovered: Sequence[Recovered], told: int) -> Iterator[str]:
    changes = [change for one in recovered for change in one.changes]
    states = Counter(change.task.state.value for change in changes)
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"calls: {told} changes told, {len(changes)} tasks put back{f' ({found})' if found else ''}"
    for change in changes:
        task = change.task
        if task.lease_expires_at is not None:
            yield f"  ask {task.leased_to} about {task.machine_id}: the call was claimed and its end is not known"
    for one in recovered:
        for task_id in one.left_out:
            yield f"  task {task_id} was not put back: its machine has another open one"
