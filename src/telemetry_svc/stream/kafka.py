"""How to reach the broker: one set of settings, turned into the options of every aiokafka client."""

import ssl
from pathlib import Path
from typing import Any, Literal

from aiokafka.partitioner import murmur2
from msgspec import Struct


class KafkaSettings(Struct, frozen=True):
    """`TELEMETRY_KAFKA_…` (contract.md, Command line). Files are PEM; the password is never printed."""

    bootstrap: str
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None

    def __repr__(self) -> str:
        return f"KafkaSettings(bootstrap={self.bootstrap!r}, security_protocol={self.security_protocol!r})"


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Keyword arguments common to aiokafka's consumer, producer and admin client."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": 15_000,
        "retry_backoff_ms": 100,
    }
    if settings.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_file and str(settings.ssl_ca_file))
    if settings.ssl_cert_file is not None:
        context.load_cert_chain(str(settings.ssl_cert_file), settings.ssl_key_file and str(settings.ssl_key_file))
    return context


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default partition of a keyed record: murmur2, as contract.md (Topics) fixes it for every producer."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
