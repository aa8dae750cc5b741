"""What a machine of the demo goes through in its first hours, reading by reading.

A drawn fleet works quietly and is abnormal only by chance and late; who watches the demo must see each kind of anomaly
among the first pings. A script stands in the place of the machine's own readings from the start up to its last one,
with the meter of its own working life, so that what follows agrees with it. Its readings are never held back.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

M_PER_DEGREE_NORTH = 111_195
HEALTHY: Mapping[str, float] = MappingProxyType({})


class Moment(NamedTuple):
    """One reading, so long after the fleet's start. `away_m`: north of the site; `sensors`: instead of healthy ones.

    `leap_ch`: how far the meter lies; `asleep`: the control unit is off, only the tracker's own battery works.
    """

    after_s: int
    away_m: float = 0.0
    sensors: Mapping[str, float] = HEALTHY
    leap_ch: int = 0
    asleep: bool = False

    def change(self, ping: dict[str, object]) -> None:
        """Makes the quiet reading of that moment into this one."""
        position, sensors = ping["position"], ping["sensors"]
        assert isinstance(position, dict)  # noqa: S101 - as the device writes them
        assert isinstance(sensors, dict)  # noqa: S101
        position["latitude_deg"] = round(position["latitude_deg"] + self.away_m / M_PER_DEGREE_NORTH, 6)
        if self.asleep:
            del ping["hour_meter_h"], ping["sensors"]
            return
        sensors.update(self.sensors)
        hours_h = ping["hour_meter_h"]
        assert isinstance(hours_h, float)  # noqa: S101
        ping["hour_meter_h"] = round(hours_h + self.leap_ch / 100, 2)


class Script(NamedTuple):
    """Readings in the order of time. `is_the_end`: after them nothing is ever sent again."""

    moments: tuple[Moment, ...]
    is_the_end: bool = False

    @property
    def ends_after_s(self) -> int:
        return self.moments[-1].after_s
