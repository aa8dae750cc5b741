"""The cache of states takes the new ones before COMMIT, and a rollback leaves them there."""

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.ingest.handler import IngestHandler, Work
from telemetry_svc.stream.consumer import FencedConsumer


def apply() -> None:
    decide, revoked = IngestHandler.apply, FencedConsumer.revoked

    async def fills_early(self: IngestHandler, connection: AsyncConnection, work: Work) -> None:
        await decide(self, connection, work)
        assert work.desk is not None
        self._cache.update((machine_id, work.desk.states[machine_id]) for machine_id in work.desk.touched)

    def keeps_the_cache(self: IngestHandler) -> None:
        self._ticks.clear()
        self.lookout.clear()

    async def drops_at_revocation(self: FencedConsumer) -> None:
        await revoked(self)
        if isinstance(self._handler, IngestHandler):
            self._handler._cache.clear()

    setattr(IngestHandler, "apply", fills_early)  # noqa: B010 - a method is not assigned to
    setattr(IngestHandler, "dropped", keeps_the_cache)  # noqa: B010
    setattr(FencedConsumer, "revoked", drops_at_revocation)  # noqa: B010
