"""Ticks that wait until their partition's pings are read: else a backlog would look like silence (decision 5)."""

from datetime import datetime

from msgspec import Struct

MACHINES_PER_TURN = 5_000


class WaitingTick(Struct, frozen=True):
    """`at`: the broker's clock; `end_offset`: the end of the ping partition, asked for after the tick had arrived."""

    at: datetime
    end_offset: int


class WaitingTicks:
    """At most one tick per partition: of several only the newest counts."""

    def __init__(self) -> None:
        self._ticks: dict[int, WaitingTick] = {}

    def add(self, partition: int, tick: WaitingTick) -> None:
        self._ticks[partition] = tick

    def ripe(self, partition: int, read_up_to: int) -> WaitingTick | None:
        """The partition's tick, once its pings are read."""
        tick = self._ticks.get(partition)
        if tick is None or read_up_to < tick.end_offset:
            return None
        return tick

    def done(self, partition: int, tick: WaitingTick) -> None:
        """Applied and committed; a newer one that has arrived meanwhile stays."""
        if self._ticks.get(partition) == tick:
            del self._ticks[partition]

    def waiting(self) -> frozenset[int]:
        """Partitions with a tick that has not been applied to the end."""
        return frozenset(self._ticks)

    def clear(self) -> None:
        self._ticks.clear()
