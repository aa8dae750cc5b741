"""What the consumer asks of whoever knows what the records mean: ingest and notify (and the tests) are handlers.

The consumer decides when a batch is decoded, stored and remembered; a handler only how.
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.stream.batch import Batch

W = TypeVar("W")


class Handler(Protocol[W]):
    """What the records mean. `W` is whatever `prepare` makes of a batch."""

    async def prepare(self, batch: Batch) -> W:
        """Decodes, outside any transaction, while the batch before is being stored. Never raises for bad records.

        What it raises of a record that must stop us ends the member, before anything of its batch is stored.
        """
        ...

    async def apply(self, connection: AsyncConnection, work: W) -> None:
        """Decides and stores, inside the fenced transaction. Must keep nothing that a rollback would not undo."""
        ...

    def committed(self, work: W) -> None:
        """COMMIT has returned: only now may a cache take the new states (decision 10)."""
        ...

    def dropped(self) -> None:
        """The partitions are no longer ours, or a batch failed: forget everything cached."""
        ...

    def wants_turn(self) -> Mapping[int, int]:
        """Partitions that have work although no record came (a tick whose backlog is read by now), each with how many
        numbers it wants reserved in the order of inputs (`Slice.reserved`)."""
        ...

    def takes(self) -> int | None:
        """How many records at the most it takes now. None: as many as there are. 0: none; the partitions are paused,
        polling and turns go on. May follow a `HeldBack` raised by `apply`."""
        ...

    def held_because(self) -> str | None:
        """Why it takes next to nothing (the breaker), in our own words, for `/readyz`; None while records flow."""
        ...
