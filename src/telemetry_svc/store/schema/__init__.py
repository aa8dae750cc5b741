"""The declared schema: SQLAlchemy Core tables. Migrations must end at exactly this (a test compares them)."""

from telemetry_svc.store.schema import calls, registry, stream, telemetry
from telemetry_svc.store.schema.base import metadata

__all__ = ["calls", "metadata", "registry", "stream", "telemetry"]
