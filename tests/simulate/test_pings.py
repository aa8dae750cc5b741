"""What a device sends: valid, physical, and normal where nothing else was asked for."""

from dataclasses import replace
from datetime import datetime, time, timedelta
from itertools import pairwise
from math import cos, hypot, radians
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given, settings

from telemetry_svc.codec import ping as codec
from telemetry_svc.simulate.fleet import Fleet, MachinePlan, build_fleet
from telemetry_svc.simulate.pings import machine_pings
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.workday import DAY, MINE
from telemetry_svc.telemetry import Lamp, Ping
from tests.simulate.fleets import MONDAY, specs

SPEC = FleetSpec(seed=3, machines=4, start=MONDAY, hours=7 * 24, ping_every_s=300)
LAWS = settings(max_examples=25, deadline=None)
LUNCH = (time(11, 30), time(13, 30))


def decoded(spec: FleetSpec, plan: MachinePlan) -> list[Ping]:
    """The machine's pings through the service's own codec: bytes out, nouns in."""
    pings = [codec.decode(msgspec.json.encode(sent.ping)) for sent in machine_pings(spec, plan)]
    assert [ping for ping in pings if not isinstance(ping, Ping)] == []
    return [ping for ping in pings if isinstance(ping, Ping)]


def fleets(fleet: Fleet) -> list[tuple[MachinePlan, list[Ping]]]:
    return [(plan, decoded(fleet.spec, plan)) for plan in fleet.plans]


def hours(value_h: float) -> timedelta:
    return timedelta(hours=value_h)


@LAWS
@given(spec=specs)
def test_every_ping_is_valid_and_later_than_the_one_before(spec: FleetSpec) -> None:
    for plan, pings in fleets(build_fleet(spec)):
        assert all(ping.machine_id == plan.machine.machine_id for ping in pings)
        assert all(spec.start - hours(1) < ping.recorded_at < spec.end for ping in pings)
        assert all(earlier.recorded_at < later.recorded_at for earlier, later in pairwise(pings))
        assert len({ping.sequence for ping in pings}) == (len(pings) if plan.numbered else min(len(pings), 1))


@LAWS
@given(spec=specs)
def test_meters_never_fall_and_stay_in_the_physical_band(spec: FleetSpec) -> None:
    for plan, pings in fleets(build_fleet(spec)):
        _assert_first_in_band(plan, pings)
        for earlier, later in pairwise(pings):
            ran_h = _h(later) - _h(earlier)
            passed_h = (later.recorded_at - earlier.recorded_at) / hours(1)
            assert 0 <= ran_h <= passed_h * 1.05 + 0.2


def _h(ping: Ping) -> float:
    assert ping.hour_meter_ch is not None
    return ping.hour_meter_ch / 100


def _assert_first_in_band(plan: MachinePlan, pings: list[Ping]) -> None:
    """Policy, "Readings": the first reading is suspect under initial - 0.1 or far over what the days allow."""
    initial_h, delivered_on = plan.machine.initial_ch / 100, plan.machine.delivered_on
    for first in pings[:1]:
        assert _h(first) >= initial_h - 0.1
        if delivered_on is not None:
            midnight = datetime.combine(delivered_on, time(), ZoneInfo(plan.machine.time_zone))
            assert _h(first) <= initial_h + 50 + 1.05 * ((first.recorded_at - midnight) / hours(1))


@LAWS
@given(spec=specs)
def test_nothing_is_abnormal_except_what_was_asked_for(spec: FleetSpec) -> None:
    for plan, pings in fleets(build_fleet(replace(spec, faults=0.0))):
        for ping in pings:
            assert ping.sensors is not None
            assert (ping.sensors.coolant_temperature_c or 0) <= 99.75
            assert (ping.sensors.oil_pressure_kpa or 105) >= 105
            assert (ping.sensors.battery_v or 0) >= 24.15
            assert (ping.sensors.fuel_level_pct or 0) >= 10.5
            assert _metres_from_site(plan, ping) < 250
            assert [fault for fault in ping.faults or () if (fault.spn, fault.fmi) != (0, 0)] == []


def _metres_from_site(plan: MachinePlan, ping: Ping) -> float:
    assert ping.position is not None
    north_deg = ping.position.latitude_deg - plan.place.latitude_deg
    east_deg = (ping.position.longitude_deg - plan.place.longitude_deg) * cos(radians(plan.place.latitude_deg))
    return hypot(north_deg, east_deg) * 111_320


def test_a_day_shift_rests_at_night_at_lunch_and_on_sundays() -> None:
    plan = replace(build_fleet(SPEC).plans[0], pattern=DAY)
    zone = ZoneInfo(plan.machine.time_zone)
    working = [ping.recorded_at.astimezone(zone) for ping in decoded(SPEC, plan) if ping.engine_running]
    assert len({local.date() for local in working}) >= 4
    assert all(time(7, 30) <= local.time() < time(17, 30) for local in working)
    assert [local for local in working if LUNCH[0] <= local.time() < LUNCH[1]] == []
    assert [local for local in working if local.isoweekday() == 7] == []


def test_the_meter_counts_what_the_engine_ran() -> None:
    """Around the clock 7 h of every 8, less 25 min at most per shift: between 6.58 and 7 h, three times a day."""
    plan = replace(build_fleet(SPEC).plans[1], pattern=MINE)
    pings = decoded(SPEC, plan)
    ran = sum(
        (
            (later.recorded_at - earlier.recorded_at) / hours(1)
            for earlier, later in pairwise(pings)
            if earlier.engine_running
        ),
        0.0,
    )
    assert abs((_h(pings[-1]) - _h(pings[0])) - ran) <= 0.02
    assert ran > 5 * 3 * 6.58


def test_a_resting_machine_is_heard_of_every_half_hour() -> None:
    for _, pings in fleets(build_fleet(SPEC)):
        assert all(later.recorded_at - earlier.recorded_at <= hours(0.5) for earlier, later in pairwise(pings))


def test_fault_codes_show_while_the_engine_runs_and_while_they_last() -> None:
    spec = replace(SPEC, faults=3.0)
    reported = 0
    for plan, pings in fleets(build_fleet(spec)):
        for ping in pings:
            codes = {(fault.spn, fault.fmi, fault.source_address) for fault in ping.faults or ()} - {(0, 0, 0)}
            now_s = int(ping.recorded_at.timestamp())
            active = {tuple(episode.code[:3]) for episode in plan.faults if episode.active(now_s)}
            assert codes == (active if ping.engine_running else set())
            assert (ping.faults is None) == (not ping.engine_running)
            reported += len(codes)
    assert reported > 50


def test_both_ways_of_saying_no_fault_occur_and_lamps_turn_red() -> None:
    fleet = build_fleet(replace(SPEC, machines=30, faults=3.0))
    lists = [ping.faults for _, pings in fleets(fleet) for ping in pings if ping.faults is not None]
    assert any(faults == () for faults in lists)
    assert any([(fault.spn, fault.fmi) for fault in faults] == [(0, 0)] for faults in lists)
    lamps_of_91 = {fault.lamp for faults in lists for fault in faults if fault.spn == 91}
    assert lamps_of_91 == {Lamp.AMBER_WARNING, Lamp.RED_STOP}


def test_lost_clocks_are_of_2011_without_a_meter_or_of_2038() -> None:
    spec = replace(SPEC, clock_faults=2)
    old, new, *others = (pings for _, pings in fleets(build_fleet(spec)))
    lost_old = [ping for ping in old if ping.recorded_at.year == 2011]
    assert lost_old
    assert all(ping.hour_meter_ch is None and ping.faults is None for ping in lost_old)
    assert [ping for ping in new if ping.recorded_at.year == 2038]
    assert {ping.recorded_at.year for pings in others for ping in pings} == {2026}


def test_spikes_are_marked_and_everything_else_is_true() -> None:
    spec = replace(SPEC, meter_spikes=1)
    plan = build_fleet(spec).plans[-1]
    honest = list(machine_pings(SPEC, build_fleet(SPEC).plans[-1]))
    off_h = []
    for sent, true in zip(machine_pings(spec, plan), honest, strict=True):
        difference_h = float(str(sent.ping["hour_meter_h"])) - float(str(true.ping["hour_meter_h"]))
        assert sent.meter_true == (difference_h == 0)
        off_h += [] if sent.meter_true else [round(difference_h)]
    assert len(off_h) >= 2
    assert set(off_h) <= {9000, -500}
