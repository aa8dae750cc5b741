"""Which edition's numbers a task goes by.

A machine is bound to its edition for good, and so are its tasks. What belongs to no machine (how long a lease is, how
many an expert may hold) goes by the default edition.
"""

from collections.abc import Mapping

from telemetry_svc.rules.service_terms import CallQueueBlock
from telemetry_svc.telemetry import EditionId


class Queues:
    """The call-queue blocks of the editions that are loaded."""

    def __init__(self, blocks: Mapping[EditionId, CallQueueBlock], default: EditionId) -> None:
        self._blocks = dict(blocks)
        self.default = default
        self.desk = self._blocks[default]

    def of(self, edition: EditionId) -> CallQueueBlock:
        """The block of an edition; the default's where it is not loaded, for a call is owed all the same."""
        return self._blocks.get(edition, self.desk)
