"""Random lives of one machine, for the laws and for the comparison with the reference.

The broker's clock runs forward in steps that are chosen around the policy's durations; what a device dates wrongly,
what arrives late or twice, and what a meter may show are drawn around the policy's limits, so that both sides are
visited.
"""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from telemetry_svc.telemetry import (
    Fault,
    Geofence,
    Input,
    InspectionDone,
    Lamp,
    Machine,
    MachineStatus,
    PermittedHours,
    Ping,
    Position,
    Reading,
    Registration,
    Sensors,
    Tick,
)
from tests.rules.machines import COMMAND_ID, MACHINE_ID, ch, decision, machine, registration, utc

BEGIN = utc("2026-01-15 02:00")
PAUSES_S = (0, 1, 29, 30, 59, 60, 61, 300, 599, 600, 1_800, 3_600, 7_200, 36_000, 86_400, 86_401, 259_200)
LONG_PAUSES_S = (2_592_000, 12_960_000, 31_622_400)
OFFSETS_S = (0, 0, 0, 0, 0, -1, -60, -61, -3_600, -90_000, 240, 300, 301, 86_400)
RISES_H = (0, 0, 0.01, 0.1, 0.2, 0.21, -0.1, -0.11, 1, 5, 9.99, 24, 40, 60, 250, 900, 3_000, -500, -5_000)
MILESTONES_H = (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 10000, 300)

faults = st.builds(
    Fault,
    spn=st.sampled_from([0, 97, 110, 110]),
    fmi=st.sampled_from([0, 3, 3, 15]),
    source_address=st.sampled_from([0, 0, 3]),
    lamp=st.sampled_from([Lamp.NONE, Lamp.RED_STOP]),
)
sensors = st.builds(
    Sensors,
    coolant_temperature_c=st.sampled_from([None, 90.0, 99.75, 99.76, 105.0, 105.01, 120.0]),
    oil_pressure_kpa=st.sampled_from([None, 0.0, 99.99, 100.0, 104.99, 105.0]),
    fuel_level_pct=st.sampled_from([None, 9.99, 10.0, 10.49, 10.5]),
    battery_v=st.sampled_from([None, 22.99, 23.0, 24.14, 24.15]),
)
positions = st.builds(
    Position,
    latitude_deg=st.sampled_from([0.0, 28.228, 28.2283, 28.2286, 28.236, 28.24, 28.9, -90.0]),
    longitude_deg=st.sampled_from([0.0, 112.939, 112.9394, 112.95, -180.0]),
)
machines = st.builds(
    machine,
    tonnage_t=st.sampled_from([19.9, 20.0, 22.5]),
    initial_h=st.sampled_from([0, 0, 0, 45, 240, 2_950, 5_990]),
    delivered_on=st.sampled_from([None, "2024-07-14", "2024-07-20", "2025-02-28", "2026-01-15", "2027-08-31"]),
    time_zone=st.sampled_from(["Asia/Shanghai", "Asia/Shanghai", "America/Sao_Paulo", "Europe/Berlin"]),
    geofence=st.sampled_from([None, Geofence(28.228, 112.939, 1_000)]),
    permitted_hours=st.sampled_from([(), (), (PermittedHours(("mon", "tue", "wed", "thu", "fri"), "08:00", "18:00"),)]),
)


class Life:
    """The broker's clock and the meter while one history is drawn."""

    def __init__(self, draw: Any, initial_h: float) -> None:
        self.draw, self.now, self.meter_h = draw, BEGIN, initial_h

    def pause(self) -> None:
        seconds = self.draw(st.sampled_from(PAUSES_S + PAUSES_S + LONG_PAUSES_S))
        self.now = min(self.now + timedelta(seconds=seconds), utc("2090-01-01"))

    def hours(self) -> float:
        """Around what the meter may show, often exactly at a milestone."""
        if self.draw(st.integers(0, 4)) == 0:
            ahead = [one for one in (*MILESTONES_H, 2_900, 5_900, 100, 300) if one > self.meter_h] or [10_000]
            shown_h = ahead[0] - self.draw(st.sampled_from([0, 0, 0.01, 10, 50]))
        else:
            shown_h = self.meter_h + self.draw(st.sampled_from(RISES_H))
        shown_h = min(max(shown_h, 0), 200_000)
        if self.draw(st.integers(0, 9)) > 0:
            self.meter_h = shown_h
        return float(round(shown_h, 2))

    def reading(self, *, with_positions: bool) -> Reading:
        self.pause()
        at = self.now + timedelta(seconds=self.draw(st.sampled_from(OFFSETS_S)))
        maybe = st.booleans()
        ping = Ping(
            MACHINE_ID,
            at,
            ch(self.hours()) if self.draw(st.integers(0, 3)) else None,
            self.draw(positions) if with_positions and self.draw(maybe) else None,
            tuple(self.draw(st.lists(faults, max_size=2))) if self.draw(maybe) else None,
            self.draw(sensors) if self.draw(maybe) else None,
            self.draw(st.sampled_from([None, True, False])),
        )
        return Reading(ping, self.now, at - self.now > timedelta(minutes=5))

    def inspection(self) -> InspectionDone:
        if self.draw(st.integers(0, 3)):
            return InspectionDone(COMMAND_ID, MACHINE_ID, self.now, self.now, self.draw(st.sampled_from(MILESTONES_H)))
        return InspectionDone(COMMAND_ID, MACHINE_ID, self.now, self.now, None, self.draw(st.integers(1, 4)))

    def tick(self) -> Tick:
        self.pause()
        return Tick(self.now)

    def change(self, of: Machine) -> Registration:
        other = self.draw(machines)
        status = self.draw(st.sampled_from([MachineStatus.ACTIVE, *MachineStatus]))
        fields = {name: getattr(other, name) for name in other.__struct_fields__} | {"status": status}
        return registration(Machine(**fields), self.now, quiet=self.draw(st.booleans()))

    def step(self, of: Machine, *, with_changes: bool) -> Input:
        match self.draw(st.integers(0, 19)):
            case 0 | 1:
                return self.inspection()
            case 2 | 3:
                return decision(self.draw(st.sampled_from(["accept", "reject", "replaced"])), self.now)
            case 4 | 5 | 6:
                return self.tick()
            case 7 if with_changes:
                return self.change(of)
            case _:
                return self.reading(with_positions=with_changes)


@st.composite
def histories(draw: Any, *, with_changes: bool, size: int = 40) -> tuple[Machine, list[Input]]:
    """A machine and what happens to it, in order of arrival; now and then a ping comes again."""
    of = draw(machines)
    life = Life(draw, of.initial_ch / 100)
    return of, [life.step(of, with_changes=with_changes) for _ in range(draw(st.integers(1, size)))]


def shifted(reading: Reading, at: datetime) -> Reading:
    """The same reading received at another time."""
    return Reading(reading.ping, at)
