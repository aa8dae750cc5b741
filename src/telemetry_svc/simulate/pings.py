"""What one machine's device sends, in the order in which it records it.

Physics first: the meter runs with the engine, in whole hundredths of an hour and never back; the machine moves only
while it works and stays within its site; sensors stay on the good side of every threshold. So the readings agree with
each other and nothing is abnormal except what the plan asks for, and whatever else is raised is a false alarm.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from telemetry_svc.simulate.fleet import MachinePlan
from telemetry_svc.simulate.script import Script
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.workday import engine_periods

PingJson = dict[str, object]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHINA_SHIFT_S = 8 * 3600
SECONDS_PER_CENTIHOUR = 36
MICRODEG = 1_000_000
SITE_REACH_MICRODEG = 1500
STEP_MICRODEG = 200
FUEL_PCT_PER_S = 5 / 3600
REFUEL_BELOW_PCT = 55.0
REFUEL_TO_PCT = 96.0
WARM_COOLANT_C = 86.0
WRONG_CLOCK_EVERY = 97
SPIKE_EVERY = 151
SPIKE_UP_CH = 900_000
SPIKE_DOWN_CH = -50_000


class Sample(NamedTuple):
    """A moment at which the device looks at the machine: seconds since 1970, engine, true meter."""

    at_s: int
    running: bool
    meter_ch: int


class Sent(NamedTuple):
    """A ping and what the device does not know: when it really was and whether its meter tells the truth."""

    at_s: int
    ping: PingJson
    meter_true: bool
    scripted: bool = False


def machine_pings(spec: FleetSpec, plan: MachinePlan) -> Iterator[Sent]:
    """Every ping of one machine in the order of recording, at least 1 s apart, within [start, end) of the spec."""
    device = Device(spec, plan)
    from_s = spec.start_s
    if plan.script is not None:
        yield from _scripted(spec, plan, plan.script, device)
        from_s = spec.end_s if plan.script.is_the_end else spec.start_s + plan.script.ends_after_s + 1
    for number, sample in enumerate(samples(spec, plan)):
        if sample.at_s < from_s:
            continue
        ping = device.ping(sample)
        meter_true = True
        if plan.clock_year is not None and number % WRONG_CLOCK_EVERY == WRONG_CLOCK_EVERY - 1:
            ping = _with_wrong_clock(ping, plan.clock_year, sample.at_s - spec.start_s)
        if plan.spikes and number % SPIKE_EVERY == SPIKE_EVERY - 1:
            ping["hour_meter_h"] = _spike_ch(sample.meter_ch, number) / 100
            meter_true = False
        yield Sent(sample.at_s, ping, meter_true)


def _scripted(spec: FleetSpec, plan: MachinePlan, script: Script, device: "Device") -> Iterator[Sent]:
    for moment in script.moments:
        at_s = spec.start_s + moment.after_s
        sample = Sample(at_s, running=not moment.asleep, meter_ch=_meter_ch(spec, plan, at_s))
        ping = device.ping(sample)
        moment.change(ping)
        yield Sent(at_s, ping, meter_true=moment.leap_ch == 0, scripted=True)


def _meter_ch(spec: FleetSpec, plan: MachinePlan, at_s: int) -> int:
    """What the meter of its own working life shows."""
    zone, rng = ZoneInfo(plan.machine.time_zone), spec.random(plan.index, "work")
    periods = takewhile(
        lambda period: period[0] < at_s, engine_periods(plan.pattern, zone, spec.start_s, spec.end_s, rng)
    )
    ran_s = sum(min(at_s, off_s) - on_s for on_s, off_s in periods)
    return (plan.meter_ch * SECONDS_PER_CENTIHOUR + ran_s) // SECONDS_PER_CENTIHOUR


def samples(spec: FleetSpec, plan: MachinePlan) -> Iterator[Sample]:
    """The engine's life as seen at each ping: at both ends of a period, often while it runs, seldom while it rests."""
    rng = spec.random(plan.index, "samples")
    zone = ZoneInfo(plan.machine.time_zone)
    start_s, end_s, every_s, idle_s = spec.start_s, spec.end_s, spec.ping_every_s, spec.idle_every_s
    at_s, ran_s = start_s + rng.randrange(every_s), plan.meter_ch * SECONDS_PER_CENTIHOUR
    for on_s, off_s in engine_periods(plan.pattern, zone, start_s, end_s, spec.random(plan.index, "work")):
        for at in range(at_s, on_s, idle_s):
            yield Sample(at, running=False, meter_ch=ran_s // SECONDS_PER_CENTIHOUR)
        for at in range(on_s, off_s, every_s):
            yield Sample(at, running=True, meter_ch=(ran_s + at - on_s) // SECONDS_PER_CENTIHOUR)
        ran_s += off_s - on_s
        at_s = off_s
    for at in range(at_s, end_s, idle_s):
        yield Sample(at, running=False, meter_ch=ran_s // SECONDS_PER_CENTIHOUR)


def rfc3339(at_s: int, suffix: str) -> str:
    """Seconds since 1970 as a device writes them: `suffix` is `Z`, `.250Z` or `+08:00`."""
    shown_s = at_s + CHINA_SHIFT_S if suffix == "+08:00" else at_s
    return (EPOCH + timedelta(seconds=shown_s)).isoformat()[:19] + suffix


class Device:
    """The box on the machine: remembers fuel, place and warmth from one ping to the next."""

    def __init__(self, spec: FleetSpec, plan: MachinePlan) -> None:
        self._plan = plan
        self._random = spec.random(plan.index, "device").random
        self._fuel_pct = 60.0 + 30.0 * self._random()
        self._coolant_c = 20.0
        self._north_microdeg = self._east_microdeg = 0
        self._site_microdeg = (round(plan.place.latitude_deg * MICRODEG), round(plan.place.longitude_deg * MICRODEG))
        self._heading_deg = int(360 * self._random())
        self._last = Sample(spec.start_s, running=False, meter_ch=0)
        self._sequence = 0

    def ping(self, sample: Sample) -> PingJson:
        """The next ping as a Ping v1 object; samples come in the order of time."""
        plan = self._plan
        ping: PingJson = {
            "machine_id": plan.machine.machine_id,
            "recorded_at": rfc3339(sample.at_s, plan.timestamp_suffix),
            "hour_meter_h": sample.meter_ch / 100,
            "position": self._position(sample.running),
        }
        if sample.running:
            ping["faults"] = self._faults(sample.at_s)
        ping["sensors"] = self._sensors(sample)
        ping["engine_running"] = sample.running
        ping["device_id"] = plan.device_id
        if plan.numbered:
            self._sequence += 1
            ping["sequence"] = self._sequence
        self._last = sample
        return ping

    def _position(self, running: bool) -> dict[str, object]:
        """A slow walk around the middle of the site while the engine runs; a parked machine stands still."""
        if running:
            draw = self._random
            self._north_microdeg = _step(self._north_microdeg, draw())
            self._east_microdeg = _step(self._east_microdeg, draw())
            self._heading_deg = (self._heading_deg + int(draw() * 40)) % 360
        latitude_microdeg, longitude_microdeg = self._site_microdeg
        return {
            "latitude_deg": (latitude_microdeg + self._north_microdeg) / MICRODEG,
            "longitude_deg": (longitude_microdeg + self._east_microdeg) / MICRODEG,
            "altitude_m": 61.0,
            "speed_kmh": 2.5 if running else 0.0,
            "heading_deg": self._heading_deg,
        }

    def _faults(self, at_s: int) -> list[dict[str, object]]:
        """DM1 as it stands: the active codes; where there are none, an empty list or, from old boxes, 0/0."""
        active = [episode.report(at_s) for episode in self._plan.faults if episode.active(at_s)]
        return active if active or self._plan.numbered else [{"spn": 0, "fmi": 0}]

    def _sensors(self, sample: Sample) -> dict[str, object]:
        """Without the engine the control unit sleeps: only the tank and the battery are known."""
        last, noise = self._last, self._random()
        if last.running:
            self._fuel_pct -= (sample.at_s - last.at_s) * FUEL_PCT_PER_S
        if not sample.running:
            self._coolant_c = 20.0
            return {"fuel_level_pct": int(self._fuel_pct * 10) / 10, "battery_v": 25.2}
        if not last.running and self._fuel_pct < REFUEL_BELOW_PCT:
            self._fuel_pct = REFUEL_TO_PCT
        self._coolant_c += (WARM_COOLANT_C - self._coolant_c) * 0.25
        return {
            "coolant_temperature_c": int((self._coolant_c + noise * 4) * 10) / 10,
            "oil_pressure_kpa": 280 + int(noise * 90),
            "fuel_level_pct": int(self._fuel_pct * 10) / 10,
            "battery_v": (272 + int(noise * 10)) / 10,
        }


def _step(from_microdeg: int, draw: float) -> int:
    """A step to either side that does not leave the site."""
    to_microdeg = from_microdeg + int((draw - 0.5) * STEP_MICRODEG)
    return to_microdeg if -SITE_REACH_MICRODEG <= to_microdeg <= SITE_REACH_MICRODEG else from_microdeg


def _with_wrong_clock(ping: PingJson, year: int, since_start_s: int) -> PingJson:
    """The same ping from a device that lost its clock. The old one lost its meter and DM1 too: they prove nothing."""
    wrong_s = int(datetime(year, 2, 1, tzinfo=UTC).timestamp()) + since_start_s
    wrong = {**ping, "recorded_at": rfc3339(wrong_s, "Z")}
    if year < 2020:
        del wrong["hour_meter_h"]
        wrong.pop("faults", None)
    return wrong


def _spike_ch(meter_ch: int, number: int) -> int:
    down_ch = meter_ch + SPIKE_DOWN_CH
    return down_ch if number // SPIKE_EVERY % 2 and down_ch >= 0 else meter_ch + SPIKE_UP_CH
