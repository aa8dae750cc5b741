"""What the service was told: deliveries as plain observations, in the order in which they came in.

The ground truth judges observations, not pings, so it can be asked about a simulated fleet, a journal of a test run or
a file of real readings. Nothing is judged here, except that a ping from the future proves nothing (policy, Readings).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from telemetry_svc.simulate.clauses import FUTURE_AFTER_S
from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.telemetry import Fault

Moment = tuple[datetime, int]
"""When the service learns of something: the time and, within it, 0 for the calendar, then the number of the ping."""

FUTURE_AFTER = timedelta(seconds=FUTURE_AFTER_S)


class Seen(NamedTuple):
    """One ping as received. `recorded_at`: UTC, cut to milliseconds.

    `meter_ch`: hundredths of an hour, None where absent; `spike`: it is a planned lie.
    """

    moment: Moment
    recorded_at: datetime
    meter_ch: int | None
    spike: bool
    faults: tuple[Fault, ...] | None
    running: bool


class _Ping(msgspec.Struct):
    """The fields of Ping v1 that decide something here."""

    recorded_at: datetime
    hour_meter_h: float | None = None
    faults: tuple[Fault, ...] | None = None
    engine_running: bool | None = None


def observe(deliveries: Iterable[Delivery], registered_at: datetime, until: datetime) -> dict[str, Sequence[Seen]]:
    """The observations of each machine up to and including `until`, without those from the future.

    A ping of a machine that was not registered yet is taken up at the registration (contract.md, Machine v1).
    """
    machines: dict[str, list[Seen]] = defaultdict(list)
    for number, delivery in enumerate(deliveries, start=1):
        seen = _seen(delivery, (max(delivery.at, registered_at), number))
        if delivery.at <= until and seen.recorded_at <= seen.moment[0] + FUTURE_AFTER:
            machines[delivery.machine_id].append(seen)
    return dict(machines)


def _seen(delivery: Delivery, moment: Moment) -> Seen:
    ping = msgspec.convert(delivery.ping, _Ping)
    recorded_at = ping.recorded_at.astimezone(UTC)
    return Seen(
        moment=moment,
        recorded_at=recorded_at.replace(microsecond=recorded_at.microsecond // 1000 * 1000),
        meter_ch=None if ping.hour_meter_h is None else round(ping.hour_meter_h * 100),
        spike=not delivery.meter_true,
        faults=ping.faults,
        running=ping.engine_running is True,
    )
