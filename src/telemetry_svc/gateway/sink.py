"""The port through which pings leave the gateway; the real one is Kafka, a test may keep a list."""

from collections.abc import Sequence
from typing import Protocol


class BrokerUnavailable(Exception):
    """The records are not known to be durable. Sending them again is harmless: repeats are counted and dropped."""


class PingSink(Protocol):
    """Takes records of the ping topic."""

    async def send(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Returns when the broker has acknowledged every (key, value). Raises `BrokerUnavailable`."""
