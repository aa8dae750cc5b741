"""Lives of single machines, one per kind of thing that can happen to them, with every fact that must come of each.

All of them lie in the past, with the policy's own numbers; every life has its own machine. `facts` are all that the
machine may ever raise, in the order in which they are decided: `rule subject stage clause`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

DAY = datetime(2026, 11, 10, 2, 0, tzinfo=UTC)
"""10:00 on a Tuesday in China."""


def at(hours: float = 0, seconds: float = 0) -> str:
    """So long after the day's beginning, as ids write it."""
    moment = DAY + timedelta(hours=hours, seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


def north(metres: float) -> dict[str, float]:
    """A fix so far north of the site."""
    return {"latitude_deg": round(28.0 + metres / 111_195, 6), "longitude_deg": 112.0}


class Pings(NamedTuple):
    """Sent in one request, in this order: (recorded_at, the fields of the reading)."""

    readings: tuple[tuple[str, dict[str, Any]], ...]


class Told(NamedTuple):
    """A command over HTTP and what `GET /v1/commands/{id}` must say of it."""

    path: Literal["inspections", "meter"]
    body: dict[str, Any]
    reason: str | None = None

    @property
    def answer(self) -> tuple[str, str | None]:
        return ("applied" if self.reason is None else "rejected", self.reason)


class Changed(NamedTuple):
    """The machine is registered again, with these fields."""

    fields: dict[str, Any]


class TimePasses(NamedTuple):
    """A tick of the broker's clock, which stands days after these lives."""


Deed = Pings | Told | Changed | TimePasses


class Life(NamedTuple):
    """A machine, what happens to it, and all that comes of it."""

    machine: dict[str, Any]
    deeds: tuple[Deed, ...]
    facts: tuple[str, ...]


def pings(*readings: tuple[str, dict[str, Any]]) -> Pings:
    return Pings(readings)


def hours(*readings: tuple[float, float]) -> Pings:
    """(hours after the day's beginning, what the meter shows)."""
    return Pings(tuple((at(after_h), {"hour_meter_h": shown_h}) for after_h, shown_h in readings))


def done(reason: str | None = None, **what: int) -> Told:
    return Told("inspections", {"performed_at": at(1)} | what, reason)


def decided(decision: str, reason: str | None = None) -> Told:
    return Told("meter", {"decision": decision, "note": "asked on site"}, reason)


def code(spn: int, fmi: int, lamp: str = "amber_warning") -> dict[str, Any]:
    return {"spn": spn, "fmi": fmi, "lamp": lamp}


OLD_METER = {"initial_hours_h": 100}
ALL_WEEK = [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "08:00", "to": "18:00"}]
FENCE = {"latitude_deg": 28.0, "longitude_deg": 112.0, "radius_m": 1_000}

INSPECTIONS = {
    "an inspection done before it is due": Life(
        {},
        (hours((0, 45.0)), done(milestone_h=50), hours((60, 101.0))),
        ("inspection 50 upcoming I1", "inspection 50 completed I1"),
    ),
    "one done late, with those that it supersedes": Life(
        {},
        (hours((0, 520.0)), done(milestone_h=500), hours((60, 560.0))),
        (
            "inspection 50 due I1",
            "inspection 50 overdue I1",
            "inspection 250 due I1",
            "inspection 250 overdue I1",
            "inspection 500 due I1",
            "inspection 50 superseded I1",
            "inspection 250 superseded I1",
            "inspection 500 completed I1",
        ),
    ),
    "one that is settled is not done again": Life(
        {},
        (
            hours((0, 50.0)),
            done(milestone_h=50),
            done(milestone_h=50, reason="the inspection at 50 h is already completed"),
        ),
        ("inspection 50 due I1", "inspection 50 completed I1"),
    ),
    "one that the registration settled": Life(
        {"initial_hours_h": 60}, (done(milestone_h=50, reason="the inspection at 50 h is already settled"),), ()
    ),
    "the warranty ends by hours, and the check-up is done": Life(
        {"initial_hours_h": 2_990},
        (
            hours((0, 2_999.99), (1, 3_000.0)),
            done(checkup_no=3, reason="check-up 3 lies beyond the next one (2)"),
            done(checkup_no=1),
            done(checkup_no=1, reason="check-up 1 is already settled"),
        ),
        (
            "warranty machine expiring W1",
            "inspection 3000 upcoming I1",
            "inspection 3000 due I1",
            "warranty machine expired W1",
            "checkup 1 due R4",
            "checkup 1 completed R4",
        ),
    ),
}

METERS = {
    "a leap that an operator accepts": Life(
        OLD_METER,
        (hours((0, 100.0), (1, 260.0)), decided("accept"), hours((2, 260.5))),
        (f"hour_meter {at(1)} opened R1", "inspection 250 due I1", f"hour_meter {at(1)} cleared R1"),
    ),
    "a meter that was replaced": Life(
        OLD_METER,
        (hours((0, 100.0), (1, 5.0)), decided("replaced"), hours((144, 104.99), (145, 105.0))),
        (
            f"hour_meter {at(1)} opened R1",
            f"hour_meter {at(1)} cleared R1",
            "inspection 250 upcoming I1",
        ),
    ),
    "a reading that an operator rejects": Life(
        OLD_METER,
        (
            hours((0, 100.0), (1, 260.0)),
            decided("reject"),
            decided("accept", "no reading of the hour meter is held: nothing to accept"),
            hours((2, 101.0)),
        ),
        (f"hour_meter {at(1)} opened R1", f"hour_meter {at(1)} cleared R1"),
    ),
    "a fall that nobody can accept": Life(
        OLD_METER,
        (
            hours((0, 100.0), (1, 99.89)),
            decided("accept", "the held reading is a rollback: true hours never fall"),
            hours((2, 100.0)),
        ),
        (f"hour_meter {at(1)} opened R1", f"hour_meter {at(1)} cleared R1"),
    ),
    "three readings that agree begin a new segment": Life(
        OLD_METER,
        (hours((0, 100.0), (1, 5.0), (1.1, 5.1), (1.2, 5.2)), hours((96, 99.9)), hours((145, 105.19), (146, 105.2))),
        (
            f"hour_meter {at(1)} opened R1",
            f"hour_meter {at(1)} cleared R1",
            "inspection 250 upcoming I1",
        ),
    ),
}

POSITIONS = {
    "an impossible speed": Life(
        {},
        (
            pings(
                (at(0), {"position": north(0)}),
                (at(0, 300), {"position": north(12_400)}),
                (at(0, 600), {"position": north(24_950)}),
                (at(0, 900), {"position": north(24_960)}),
            ),
        ),
        (f"position speed@{at(0, 600)} opened R1", f"position speed@{at(0, 600)} cleared R1"),
    ),
    "out of the geofence and back": Life(
        {"geofence": FENCE},
        (
            pings(
                (at(0), {"position": north(990)}),
                (at(1), {"position": north(1_010)}),
                (at(2), {"position": north(960)}),
                (at(3), {"position": north(940)}),
            ),
        ),
        (f"position geofence@{at(1)} opened R1", f"position geofence@{at(1)} cleared R1"),
    ),
    "moved with the engine off": Life(
        {},
        (
            pings(
                (at(0), {"position": north(0), "engine_running": False}),
                (at(1), {"position": north(400), "engine_running": False}),
                (at(2), {"position": north(510), "engine_running": False}),
                (at(3), {"position": north(510), "engine_running": True}),
            ),
        ),
        (f"position engine_off_movement@{at(2)} opened R1", f"position engine_off_movement@{at(2)} cleared R1"),
    ),
    "moved outside permitted hours, until these begin": Life(
        {"permitted_hours": ALL_WEEK},
        (
            pings(
                (at(7), {"position": north(0), "engine_running": True}),
                (at(9), {"position": north(400), "engine_running": True}),
                (at(10), {"position": north(510), "engine_running": True}),
            ),
            TimePasses(),
        ),
        (f"position outside_hours@{at(10)} opened R1", f"position outside_hours@{at(10)} cleared R1"),
    ),
}


def sensed(*readings: tuple[float, dict[str, float], dict[str, Any]]) -> Pings:
    """(seconds after the day's beginning, sensors, other fields)."""
    return Pings(tuple((at(0, after_s), {"sensors": values} | other) for after_s, values, other in readings))


RUNS, RESTS = {"engine_running": True}, {"engine_running": False}
SENSORS = {
    "hot coolant for a minute": Life(
        {},
        (
            sensed(
                (0, {"coolant_temperature_c": 105.01}, {}),
                (59, {"coolant_temperature_c": 120}, {}),
                (60, {"coolant_temperature_c": 105.01}, {}),
                (61, {"coolant_temperature_c": 99.76}, {}),
                (62, {"coolant_temperature_c": 99.75}, {}),
            ),
        ),
        (f"sensor coolant_temperature_c@{at(0)} opened R1", f"sensor coolant_temperature_c@{at(0)} cleared R1"),
    ),
    "hardly any oil pressure for half a minute, until the engine is off": Life(
        {},
        (
            sensed(
                (0, {"oil_pressure_kpa": 99}, RUNS),
                (29, {"oil_pressure_kpa": 99}, RUNS),
                (30, {"oil_pressure_kpa": 99}, RUNS),
                (31, {"oil_pressure_kpa": 0}, RESTS),
            ),
        ),
        (f"sensor oil_pressure_kpa@{at(0)} opened R1", f"sensor oil_pressure_kpa@{at(0)} cleared R1"),
    ),
    "a weak battery for ten minutes": Life(
        {},
        (
            sensed(
                (0, {"battery_v": 22.99}, {}),
                (599, {"battery_v": 22.99}, {}),
                (600, {"battery_v": 22.99}, {}),
                (601, {"battery_v": 24.14}, {}),
                (602, {"battery_v": 24.15}, {}),
            ),
        ),
        (f"sensor battery_v@{at(0)} opened R1", f"sensor battery_v@{at(0)} cleared R1"),
    ),
    "an empty tank": Life(
        {},
        (
            sensed(
                (0, {"fuel_level_pct": 10}, {}),
                (60, {"fuel_level_pct": 9.99}, {}),
                (120, {"fuel_level_pct": 10.49}, {}),
                (180, {"fuel_level_pct": 10.5}, {}),
            ),
        ),
        (f"sensor fuel_level_pct@{at(0, 60)} opened R1", f"sensor fuel_level_pct@{at(0, 60)} cleared R1"),
    ),
}

CODES = {
    "a fault that worsens and goes": Life(
        {},
        (
            pings(
                (at(0), {"faults": [code(110, 3)]}),
                (at(1), {"faults": [code(110, 3, "red_stop")]}),
                (at(2), {"faults": []}),
                (at(2, 59), {"faults": []}),
            ),
            pings((at(2, 60), {"faults": []})),
        ),
        (
            f"fault 110/3/0@{at(0)} opened R1",
            f"fault 110/3/0@{at(0)} worsened-critical R1",
            f"fault 110/3/0@{at(0)} cleared R1",
        ),
    ),
    "more codes in a day than are told": Life(
        {},
        (pings((at(0), {"faults": [code(spn, 3) for spn in range(1, 23)]})), TimePasses()),
        (
            *(f"fault {spn}/3/0@{at(0)} opened R1" for spn in range(1, 21)),
            f"storm {at(0)} opened R1",
            f"storm {at(0)} cleared R1",
        ),
    ),
}

CHANGES = {
    "a stored machine still tells what its readings show": Life(
        {"status": "stored"}, (hours((0, 50.0)),), ("inspection 50 due I1",)
    ),
    "a retired machine says nothing, and on the way back nothing of what it passed": Life(
        {},
        (
            pings((at(0), {"hour_meter_h": 10.0, "faults": [code(91, 3)]})),
            Changed({"status": "retired"}),
            pings((at(100), {"hour_meter_h": 60.0, "faults": [code(94, 1)]})),
            Changed({"status": "active"}),
            pings((at(200), {"hour_meter_h": 99.99, "faults": []}), (at(200.1), {"hour_meter_h": 100.0})),
        ),
        (f"fault 91/3/0@{at(0)} opened R1",),
    ),
    "a machine's faults stay its own under another customer": Life(
        {"customer_id": "c-1"},
        (
            pings((at(0), {"faults": [code(91, 3)]})),
            Changed({"customer_id": "c-2"}),
            pings((at(1), {"faults": []}), (at(1, 60), {"faults": []})),
        ),
        (f"fault 91/3/0@{at(0)} opened R1", f"fault 91/3/0@{at(0)} cleared R1"),
    ),
    "a warranty window that is open at registration": Life(
        {"delivered_on": f"{datetime.now(UTC) - timedelta(days=360):%Y-%m-%d}", "tonnage_t": 19.9},
        (),
        ("warranty machine expiring W1",),
    ),
    "a warranty that ended before it": Life({"delivered_on": "2020-02-29"}, (hours((0, 10.0)),), ()),
}

LIVES: dict[str, Life] = INSPECTIONS | METERS | POSITIONS | SENSORS | CODES | CHANGES
