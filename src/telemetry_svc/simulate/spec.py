"""What is asked of the simulator: the options of `telemetry-svc simulate` as frozen data.

The same spec is the same fleet and the same bytes, on every machine and for ever: nothing here or below asks a clock
or draws from anything but the seed. A machine depends on its own index only, so a larger fleet begins with the smaller
one, and the ways of delivery (`duplicates`, `late`) never change what was sent.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

MAX_SHARE = 0.8
MAX_FAULTS_PER_DAY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """A fleet to be drawn. Raises `ValueError` for what cannot be simulated.

    `start` is an aware datetime; `hours` the simulated time after it.
    `duplicates`: share of the pings that are sent a second time; `late`: share that arrives behind a newer one of its
    machine; `faults`: fault episodes per machine and simulated day, on average (at most 4, so that no machine makes a
    storm). `clock_faults`, `meter_spikes`: how many machines now and then date a ping in 2011 or 2038, or send one
    reading that is 9 000 h too high or 500 h too low. `ping_every_s`, `idle_every_s`: engine on, engine off.
    """

    seed: int
    machines: int
    start: datetime
    hours: float
    duplicates: float = 0.0
    late: float = 0.0
    faults: float = 0.0
    clock_faults: int = 0
    meter_spikes: int = 0
    ping_every_s: int = 60
    idle_every_s: int = 1800
    id_prefix: str = "ZE"

    def __post_init__(self) -> None:
        if self.start.tzinfo is None:
            raise ValueError("start must be an aware datetime")
        if self.machines < 1 or self.hours <= 0:
            raise ValueError("machines and hours must be above 0")
        if not (0 <= self.duplicates <= MAX_SHARE and 0 <= self.late <= MAX_SHARE):
            raise ValueError(f"duplicates and late are shares from 0 to {MAX_SHARE}")
        if not 0 <= self.faults <= MAX_FAULTS_PER_DAY:
            raise ValueError(f"faults is a rate from 0 to {MAX_FAULTS_PER_DAY} per machine and day")
        if min(self.ping_every_s, self.idle_every_s) < 2:
            raise ValueError("pings must be at least 2 s apart")

    @property
    def end(self) -> datetime:
        """The moment before which every ping is recorded."""
        return self.start + timedelta(hours=self.hours)

    @property
    def start_s(self) -> int:
        """`start` in whole seconds since 1970."""
        return int(self.start.timestamp())

    @property
    def end_s(self) -> int:
        """`end` in whole seconds since 1970."""
        return int(self.end.timestamp())

    def random(self, index: int, purpose: str) -> Random:
        """The machine's own dice for one purpose: what one purpose draws changes nothing for another."""
        return Random(f"{self.seed}/{index}/{purpose}")
