"""A PostgreSQL and a Kafka on loopback for `up`, `demo` and the tests, so that only Python and make are needed.

    async with start_embedded(data_dir, progress=print) as parts:
        parts.database_url, parts.kafka_bootstrap

Not for production, and not for Windows. Needs the extra `telemetry-svc[embedded]`.
"""

from telemetry_svc.embedded.directory import Running, default_cache_dir, default_data_dir, find_running
from telemetry_svc.embedded.errors import (
    AlreadyRunning,
    EmbeddedError,
    EmbeddedUnavailable,
    PartDied,
    StartFailed,
)
from telemetry_svc.embedded.front import EmbeddedServices, start_embedded
from telemetry_svc.embedded.kafka import KafkaBroker
from telemetry_svc.embedded.postgres import PostgresServer

__all__ = [
    "AlreadyRunning",
    "EmbeddedError",
    "EmbeddedServices",
    "EmbeddedUnavailable",
    "KafkaBroker",
    "PartDied",
    "PostgresServer",
    "Running",
    "StartFailed",
    "default_cache_dir",
    "default_data_dir",
    "find_running",
    "start_embedded",
]
