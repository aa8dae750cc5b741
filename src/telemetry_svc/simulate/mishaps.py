"""The scripts of the demo: each kind of anomaly within the first hour and a half of the fleet's past.

Thresholds are the policy's ("What abnormal means"), taken with room to spare; minutes are counted from the start.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from telemetry_svc.simulate.faults import GENERAL, FaultCode, FaultEpisode
from telemetry_svc.simulate.script import Moment, Script
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.telemetry import PermittedHours

MINUTE_S = 60
OUTSIDE_FROM_MIN, OUTSIDE_UNTIL_MIN = 25, 65
STORM_SPNS = (84, 91, 94, 96, 97, 98, 100, 102, 105, 107, 108, 110, 111, 157, 158, 168, 171, 172, 174, 175, 190, 412)


def _at(minute: float) -> int:
    return int(minute * MINUTE_S)


OVERHEATING = Script(
    (
        Moment(_at(5)),
        Moment(_at(10), sensors={"coolant_temperature_c": 107.5, "oil_pressure_kpa": 82}),
        Moment(_at(12), sensors={"coolant_temperature_c": 109.0, "oil_pressure_kpa": 80}),
        Moment(_at(20), sensors={"coolant_temperature_c": 96.0, "oil_pressure_kpa": 240}),
    )
)
RUNNING_DRY = Script(
    (
        Moment(_at(5)),
        Moment(_at(10), sensors={"battery_v": 22.4, "fuel_level_pct": 8.5}),
        Moment(_at(21), sensors={"battery_v": 22.3, "fuel_level_pct": 8.0}),
        Moment(_at(30), sensors={"battery_v": 27.1, "fuel_level_pct": 94.0}),
    )
)
STRAYING = Script((Moment(_at(5)), Moment(_at(10), away_m=1_800), Moment(_at(15), away_m=1_900), Moment(_at(20))))
LEAPING = Script((Moment(_at(5)), Moment(_at(10), away_m=60_000), Moment(_at(15)), Moment(_at(20))))
TOWED = Script(
    (
        *(Moment(_at(minute), asleep=True) for minute in (5, 10)),
        *(Moment(_at(15 + n), away_m=700 + 300 * n, asleep=True) for n in range(4)),
        Moment(_at(30), away_m=1_600),
    )
)
AT_NIGHT = Script(
    (
        Moment(_at(5)),
        Moment(_at(15)),
        Moment(_at(35), away_m=700),
        Moment(_at(40), away_m=1_400),
        Moment(_at(70), away_m=1_400),
    )
)
LYING = Script((Moment(_at(5)), Moment(_at(10), leap_ch=900_000), Moment(_at(15))))
FALLING_SILENT = Script((Moment(_at(5)), Moment(_at(6)), Moment(_at(7))), is_the_end=True)
WORSENING = Script(tuple(Moment(_at(minute)) for minute in (5, 11, 20, 22)))
STORMING = Script(tuple(Moment(_at(minute)) for minute in (5, 60, 125, 130)))


def worsening_fault(spec: FleetSpec) -> FaultEpisode:
    """General at first, major with the red lamp, gone after a quarter of an hour."""
    return FaultEpisode(GENERAL[0], spec.start_s + _at(4), spec.start_s + _at(15), red_from_s=spec.start_s + _at(10))


def storm_of_faults(spec: FleetSpec) -> tuple[FaultEpisode, ...]:
    """More codes at once than are told in a day."""
    codes = [FaultCode(spn, 3, 0, "amber_warning") for spn in STORM_SPNS]
    return tuple(FaultEpisode(code, spec.start_s + _at(4), spec.start_s + _at(120)) for code in codes)


def hours_that_end_soon(start: datetime, time_zone: str) -> tuple[PermittedHours, ...]:
    """Permitted but for forty minutes of each day, the first of which begin 25 min after the start."""
    until, since = (_clock(start, time_zone, minute) for minute in (OUTSIDE_FROM_MIN, OUTSIDE_UNTIL_MIN))
    return (PermittedHours(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), since, until),)


def _clock(start: datetime, time_zone: str, minute: int) -> str:
    return f"{(start + timedelta(minutes=minute)).astimezone(ZoneInfo(time_zone)):%H:%M}"
