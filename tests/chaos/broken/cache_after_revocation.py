"""The cache of states outlives the ownership: who gets a partition back goes on with what he remembers of it."""

from aiokafka import TopicPartition

from telemetry_svc.ingest.handler import IngestHandler
from telemetry_svc.rules import MachineState
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.telemetry import MachineId


def apply() -> None:
    assigned, revoked = FencedConsumer.assigned, FencedConsumer.revoked

    def remembers(self: FencedConsumer, pairs: set[TopicPartition]) -> None:
        kept = _cache_of(self)
        assigned(self, pairs)
        _cache_of(self, kept)

    async def keeps(self: FencedConsumer) -> None:
        kept = _cache_of(self)
        await revoked(self)
        _cache_of(self, kept)

    setattr(FencedConsumer, "assigned", remembers)  # noqa: B010 - a method is not assigned to
    setattr(FencedConsumer, "revoked", keeps)  # noqa: B010


def _cache_of(
    member: FencedConsumer, put_back: dict[MachineId, MachineState] | None = None
) -> dict[MachineId, MachineState]:
    """What the member's handler remembers, with what is put back into it."""
    if not isinstance(member._handler, IngestHandler):
        return {}
    member._handler._cache.update(put_back or {})
    return dict(member._handler._cache)
