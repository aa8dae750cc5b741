"""Creates the topics with the settings the guarantees need, and refuses those that would lose data.

`telemetry-svc migrate` makes them; ingest, the scheduler and notify ask at their start, and once a minute, whether both
topics that they read still have as many partitions as the machines were spread over (`agreed_partitions`; design.md,
decision 4).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.store.layout import keep_layout, layout
from telemetry_svc.stream.kafka import KafkaSettings, client_options

PARTITIONS = 12
_DAY_MS = 24 * 3600 * 1000
METADATA_TRIES = 100
METADATA_PAUSE_S = 0.1
_MAX_RECORD = 2 * 1024 * 1024
_BROKERS_CLOCK = "LogAppendTime"
_BROKER_DEFAULT = 1024 * 1024


class TopicSpec(Struct, frozen=True):
    """One topic as it must be. Retention in days; `append_time`: the broker's clock is `received_at`."""

    name: str
    retention_d: int
    append_time: bool = False
    max_message_bytes: int | None = None

    def configs(self) -> dict[str, str]:
        configs = {"retention.ms": str(self.retention_d * _DAY_MS), "retention.bytes": "-1", "cleanup.policy": "delete"}
        if self.append_time:
            configs["message.timestamp.type"] = _BROKERS_CLOCK
        if self.max_message_bytes is not None:
            configs["max.message.bytes"] = str(self.max_message_bytes)
        return configs


ALL_TOPICS = (
    TopicSpec(topics.PINGS, 14, append_time=True),
    TopicSpec(topics.COMMANDS, 14, append_time=True),
    TopicSpec(topics.MAINTENANCE_DUE, 90),
    TopicSpec(topics.ANOMALY, 90),
    TopicSpec(topics.CALLS, 90),
    TopicSpec(topics.DEAD_LETTERS, 30, max_message_bytes=_MAX_RECORD),
)

_BY_BROKERS_CLOCK = frozenset(spec.name for spec in ALL_TOPICS if spec.append_time)


def largest_batch_bytes(topic: str) -> int:
    """What the topic takes as one batch of records; the broker's default where it has no setting of its own."""
    for spec in ALL_TOPICS:
        if spec.name == topic and spec.max_message_bytes is not None:
            return spec.max_message_bytes
    return _BROKER_DEFAULT


class TopicsRefused(Exception):
    """Existing topics would lose data, or differ in partitions. The text names each and the setting to mend."""


class LayoutError(Exception):
    """The topics are not spread as machines were when the database first saw them. The text names both numbers."""


class WrongClockError(LayoutError):
    """A topic, or a record in it, gives its producer's time for the broker's. The text names topic and setting."""


class BrokerUnavailable(Exception):
    """The broker did not answer. The text names its address."""


async def ensure_topics(settings: KafkaSettings, *, replication: int) -> tuple[list[str], Mapping[str, int]]:
    """Creates what is missing; returns the names of those, and how many partitions each topic has.

    Raises `TopicsRefused` or `BrokerUnavailable`.
    """
    async with _admin(settings) as admin:
        existing = set(await admin.list_topics())
        missing = [spec for spec in ALL_TOPICS if spec.name not in existing]
        if missing:
            await _create(admin, missing, replication)
        found, counts = await _known_everywhere(admin)
        faults = [fault for spec in ALL_TOPICS for fault in _faults(spec, found[spec.name])]
        faults += _layout_faults(counts)
        if faults:
            raise TopicsRefused("; ".join(faults))
        return [spec.name for spec in missing], counts


async def partition_counts(settings: KafkaSettings) -> Mapping[str, int]:
    """Partitions of each of our topics that exists. Raises `BrokerUnavailable`."""
    async with _admin(settings) as admin:
        return await _partition_counts(admin)


async def agreed_partitions(
    settings: KafkaSettings, engine: AsyncEngine, group: str = topics.INGEST_GROUP
) -> int | None:
    """Into how many partitions machines are spread: by the broker, for both topics of the group, and as first noted in
    the database.

    None where the broker does not know the topics yet (`migrate` has not run). Raises `LayoutError`, of it
    `WrongClockError`, `BrokerUnavailable` and what the database raises.
    """
    async with _admin(settings) as admin:
        counts = await _partition_counts(admin)
        pair = {name: counts[name] for name in topics.READ_BY[group] if name in counts}
        if len(pair) < 2:
            return None
        _refuse_other_clocks(await _describe(admin), _BY_BROKERS_CLOCK & pair.keys())
    async with engine.begin() as connection:
        await keep_layout(connection, pair)
        noted = await layout(connection)
    numbers = {*pair.values(), *(noted[name] for name in pair)}
    if len(numbers) > 1:
        there = ", ".join(f"{name} has {count} partitions (noted: {noted[name]})" for name, count in pair.items())
        raise LayoutError(f"machines would be spread anew: {there}; make the topics as they were")
    return numbers.pop()


async def delete_before(settings: KafkaSettings, offsets: Mapping[TopicPartition, int]) -> None:
    """Deletes the records below these offsets. Raises `BrokerUnavailable`."""
    async with _admin(settings) as admin:
        await admin.delete_records({pair: RecordsToDelete(before_offset=offset) for pair, offset in offsets.items()})


def _refuse_other_clocks(found: Mapping[str, Mapping[str, str]], names: Iterable[str]) -> None:
    """`received_at` must be the broker's time. A broker that tells us no settings is believed: `migrate` looked."""
    for name in names:
        clock = found.get(name, {}).get("message.timestamp.type", _BROKERS_CLOCK)
        if clock != _BROKERS_CLOCK:
            raise WrongClockError(f"{name}: message.timestamp.type is {clock}, must be {_BROKERS_CLOCK}")


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is closed again; a broker that is not there, or goes away meanwhile, has our name."""
    client = AIOKafkaAdminClient(**client_options(settings, "telemetry-admin"))
    try:
        await client.start()
        yield client
    except (KafkaError, OSError) as error:
        if isinstance(error, KafkaError) and not (error.retriable or isinstance(error, KafkaTimeoutError)):
            raise
        message = f"no Kafka broker answers at {settings.bootstrap} (TELEMETRY_KAFKA_BOOTSTRAP)"
        raise BrokerUnavailable(message) from error
    finally:
        await client.close()


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec], replication: int) -> None:
    durable = {"min.insync.replicas": "2"} if replication >= 3 else {}
    new = [
        NewTopic(
            name=spec.name,
            num_partitions=PARTITIONS,
            replication_factor=replication,
            topic_configs=spec.configs() | durable,
        )
        for spec in specs
    ]
    response: Any = await admin.create_topics(new)
    for name, code, *rest in response.topic_errors:
        if code not in {0, TopicAlreadyExistsError.errno}:
            reason = rest[0] if rest and rest[0] else KafkaError.__name__
            message = f"topic {name} cannot be created (Kafka error {code}: {reason}); is TOPIC_REPLICATION right?"
            raise TopicsRefused(message)


async def _known_everywhere(admin: AIOKafkaAdminClient) -> tuple[dict[str, dict[str, str]], dict[str, int]]:
    """Settings and partitions of every topic; a broker needs a moment before it knows those it has just made."""
    for _ in range(METADATA_TRIES):
        found, counts = await _describe(admin), await _partition_counts(admin)
        if all(found.get(spec.name) and spec.name in counts for spec in ALL_TOPICS):
            return found, counts
        await asyncio.sleep(METADATA_PAUSE_S)
    raise BrokerUnavailable("the broker made the topics but does not describe them")


async def _describe(admin: AIOKafkaAdminClient) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in ALL_TOPICS]
    found: dict[str, dict[str, str]] = {}
    responses: list[Any] = await admin.describe_configs(resources)
    for response in responses:
        for resource in response.resources:
            _, _, _, name, entries = resource[:5]
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _faults(spec: TopicSpec, found: Mapping[str, Any]) -> list[str]:
    faults = []
    if found.get("cleanup.policy") != "delete":
        faults.append(f"{spec.name}: cleanup.policy is {found.get('cleanup.policy')}, must be delete")
    for name in ("retention.ms", "retention.bytes"):
        wanted, value = int(spec.configs()[name]), int(found.get(name, -1))
        if value != -1 and (wanted == -1 or value < wanted):
            faults.append(f"{spec.name}: {name} is {value}, must be {wanted} or more")
    if spec.append_time and found.get("message.timestamp.type") != _BROKERS_CLOCK:
        faults.append(f"{spec.name}: message.timestamp.type must be {_BROKERS_CLOCK}")
    if spec.max_message_bytes and int(found.get("max.message.bytes", 0)) < spec.max_message_bytes:
        faults.append(f"{spec.name}: max.message.bytes must be {spec.max_message_bytes} or more")
    return faults


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    described = await admin.describe_topics([spec.name for spec in ALL_TOPICS])
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


def _layout_faults(counts: Mapping[str, int]) -> list[str]:
    return [
        f"{one} has {counts[one]} partitions and {other} has {counts[other]}: both must have the same number"
        for one, other in ((topics.PINGS, topics.COMMANDS), (topics.MAINTENANCE_DUE, topics.ANOMALY))
        if counts[one] != counts[other]
    ]
