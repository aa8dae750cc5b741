"""A slow, obvious second opinion on what a machine's inputs decide; nothing here is imported from `rules/`.

Every number is copied from the text of policy.md (revised edition). At each input everything is looked at again: all
milestones, all months, all earlier reports; nothing is remembered but the inputs themselves and what was told. Position
rules, the storm cap and the forecast are left to their scenario tables.
"""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from telemetry_svc.telemetry import Fault, Input, InspectionDone, Machine, MeterDecision, Reading, Tick
from tests.rules.reference_meter import HOUR, Meter, Told, midnight, moment, months_later

MILESTONES_H = (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 10000)
Judge = Callable[[float], bool]
SENSORS: tuple[
    tuple[str, Judge, Judge, int, bool], ...
] = (  # field, beyond, back, seconds, only with the engine running
    ("coolant_temperature_c", lambda v: v > 105, lambda v: v <= 99.75, 60, False),
    ("oil_pressure_kpa", lambda v: v < 100, lambda v: v >= 105, 30, True),
    ("battery_v", lambda v: v < 23.0, lambda v: v >= 24.15, 600, False),
    ("fuel_level_pct", lambda v: v < 10, lambda v: v >= 10.5, 0, False),
)


class Reference:
    """One machine of the revised edition, never retired, with the storm cap off; `give` tells what an input decides."""

    def __init__(self, machine: Machine, registered_at: datetime) -> None:
        self.machine, self.registered_at = machine, registered_at
        self.meter = Meter(machine)
        self.told: dict[Told, datetime] = {}
        self.done: set[tuple[str, int]] = set()  # completed, superseded or settled
        self.reports: list[Reading] = []
        self.codes: dict[tuple[int, int, int], list[Reading]] = {}
        self.ended_at: datetime | None = None
        self.base_day: date | None = None
        self.pings: list[Reading] = []
        self.silent: str | None = None
        self.engine: list[tuple[datetime, bool]] = []
        self.sensed: dict[str, list[tuple[datetime, bool, bool]]] = {row[0]: [] for row in SENSORS}
        self.open_sensors: dict[str, str] = {}
        self.settle()
        silently = set(self.told)
        self.calendar(registered_at)
        self.at_registration = {told for told in self.told if told not in silently}

    # --- registration -------------------------------------------------------------------------------------------

    def limit_h(self) -> int:
        return 3000 if self.machine.tonnage_t >= 20 else 2000

    def last_day(self) -> date | None:
        day = self.machine.delivered_on
        return None if day is None else months_later(day, 18 if self.machine.tonnage_t >= 20 else 12)

    def warranty_end(self) -> datetime | None:
        last = self.last_day()
        return None if last is None else midnight(last + timedelta(days=1), self.machine.time_zone)

    def settle(self) -> None:
        for milestone_h in MILESTONES_H:
            if milestone_h <= self.meter.initial:
                self.done.add(("inspection", milestone_h))
        end = self.warranty_end()
        if self.meter.initial >= 6000:
            self.told["warranty", "structure", "expired"] = self.registered_at
        if self.meter.initial >= self.limit_h() or (end is not None and end <= self.registered_at):
            self.told["warranty", "machine", "expired"] = self.registered_at
            counted_from = end if end is not None and end <= self.registered_at else self.registered_at
            self.base_day = counted_from.astimezone(ZoneInfo(self.machine.time_zone)).date()
            self.settle_checkups(1)

    def settle_checkups(self, first: int) -> None:
        for number in range(first, 200):
            if self.checkup_at(number) <= self.registered_at and ("checkup", str(number), "due") not in self.told:
                self.done.add(("checkup", number))

    def checkup_at(self, number: int) -> datetime:
        assert self.base_day is not None
        return midnight(months_later(self.base_day, 12 * (number - 1)), self.machine.time_zone)

    # --- one input ----------------------------------------------------------------------------------------------

    def give(self, given: Input) -> dict[Told, datetime]:
        """The facts this input decides, with their times."""
        before = set(self.told)
        match given:
            case Reading():
                self.reading(given)
            case Tick(at=at):
                self.calendar(at)
                self.silence_at(at)
            case InspectionDone():
                self.inspection_done(given)
            case MeterDecision():
                closed, accepted = self.meter.decide(given.decision)
                self.tell(closed, given.received_at)
                if accepted is not None:
                    self.milestones(accepted.ping.recorded_at)
            case _:
                raise AssertionError("not for the reference")
        return {told: at for told, at in self.told.items() if told not in before}

    def tell(self, facts: list[Told], at: datetime) -> None:
        for told in facts:
            self.told.setdefault(told, at)

    def reading(self, reading: Reading) -> None:
        ping, at = reading.ping, reading.ping.recorded_at
        if self.silent is not None:
            self.tell([("silence", self.silent, "cleared")], reading.received_at)
            self.silent = None
        self.pings.append(reading)
        if reading.future:
            return
        self.calendar(at)
        if ping.hour_meter_ch is not None:
            facts, hours = self.meter.read(reading)
            self.tell(facts, at)
            if hours is not None:
                self.milestones(at)
                self.ended_earlier(at, hours)
        self.faults(reading)
        self.sensors(reading)

    # --- maintenance --------------------------------------------------------------------------------------------

    def milestones(self, at: datetime) -> None:
        """Every stage that the true hours have reached and nobody has told of."""
        true = self.meter.true or Fraction(0)
        for milestone_h in MILESTONES_H:
            subject = str(milestone_h)
            if ("inspection", milestone_h) in self.done:
                continue
            if milestone_h - (10 if milestone_h == 50 else 50) <= true < milestone_h:
                self.tell([("inspection", subject, "upcoming")], at)
            if true >= milestone_h:
                self.tell([("inspection", subject, "due")], at)
            if true >= milestone_h + 50:
                self.tell([("inspection", subject, "overdue")], at)
        self.warranties(at, true)

    def warranties(self, at: datetime, true: Fraction) -> None:
        for coverage, limit_h in (("machine", self.limit_h()), ("structure", 6000)):
            if ("warranty", coverage, "expired") in self.told:
                continue
            if true >= limit_h:
                self.tell([("warranty", coverage, "expired")], at)
                if coverage == "machine":
                    self.first_checkup(at)
            elif true >= limit_h - 100:
                self.tell([("warranty", coverage, "expiring")], at)

    def first_checkup(self, ended_at: datetime) -> None:
        self.ended_at, self.base_day = ended_at, ended_at.astimezone(ZoneInfo(self.machine.time_zone)).date()
        if ("checkup", 1) not in self.done:
            self.tell([("checkup", "1", "due")], ended_at)
        self.settle_checkups(2)

    def ended_earlier(self, at: datetime, hours: Fraction) -> None:
        """A late reading over the limit: the warranty had ended on its day already."""
        if self.ended_at is None or at >= self.ended_at or hours < self.limit_h():
            return
        self.ended_at, self.base_day = at, at.astimezone(ZoneInfo(self.machine.time_zone)).date()
        self.settle_checkups(2)
        self.checkups_until(max(one.ping.recorded_at for one in self.pings if not one.future))

    def calendar(self, at: datetime) -> None:
        end, last = self.warranty_end(), self.last_day()
        if end is not None and last is not None and ("warranty", "machine", "expired") not in self.told:
            opens = midnight(last - timedelta(days=30), self.machine.time_zone)
            if at >= end:
                self.tell([("warranty", "machine", "expired")], end)
                self.first_checkup(end)
            elif at >= opens:
                self.tell([("warranty", "machine", "expiring")], opens)
        self.checkups_until(at)

    def checkups_until(self, at: datetime) -> None:
        for number in range(2 if self.ended_at else 1, 100):
            if self.base_day is None or self.checkup_at(number) > at:
                return
            if ("checkup", number) not in self.done:
                self.tell([("checkup", str(number), "due")], self.checkup_at(number))

    def next_checkup(self) -> int:
        """The first that is neither due nor settled."""
        return next(
            n for n in range(1, 300) if ("checkup", n) not in self.done and ("checkup", str(n), "due") not in self.told
        )

    def inspection_done(self, command: InspectionDone) -> None:
        kind = "inspection" if command.milestone_h is not None else "checkup"
        number = command.milestone_h or command.checkup_no or 0
        if (kind, number) in self.done or (kind == "checkup" and number > self.next_checkup()):
            return
        if kind == "inspection" and number not in MILESTONES_H:
            return
        for earlier in MILESTONES_H if kind == "inspection" else range(1, number + 1):
            if earlier < number and (kind, earlier) not in self.done:
                self.done.add((kind, earlier))
                self.tell([(kind, str(earlier), "superseded")], command.performed_at)
        self.done.add((kind, number))
        self.tell([(kind, str(number), "completed")], command.performed_at)

    # --- faults -------------------------------------------------------------------------------------------------

    def severity(self, fault: Fault) -> int:
        """0 warning … 3 critical."""
        red = fault.lamp.value == "red_stop"
        if fault.fmi in (15, 17):
            return 0
        if red and (fault.fmi in (0, 1) or fault.spn in (98, 100, 110, 111, 175, 190)):
            return 3
        return 2 if red or fault.fmi in (0, 1) else 1

    def reports_of(self, address: int) -> list[Reading]:
        return [one for one in self.reports if self.is_report(one, address)]

    def is_report(self, one: Reading, address: int) -> bool:
        faults = one.ping.faults
        return faults is not None and (not faults or any(fault.source_address == address for fault in faults))

    def active(self, one: Reading) -> Iterator[Fault]:
        return (fault for fault in one.ping.faults or () if (fault.spn, fault.fmi) != (0, 0))

    def faults(self, reading: Reading) -> None:
        at = reading.ping.recorded_at
        if reading.ping.faults is not None:
            addresses = {fault.source_address for fault in reading.ping.faults} or set(range(256))
        else:
            addresses = set()
        fresh = {a for a in addresses if all(one.ping.recorded_at <= at for one in self.reports_of(a))}
        seen = {(f.source_address, f.spn, f.fmi) for f in self.active(reading)}
        for key, history in list(self.codes.items()):
            newest = [one.ping.recorded_at for one in self.reports_of(key[0])]
            if key not in seen and all(one <= at for one in newest):
                self.maybe_closed(key, history, reading, is_report=key[0] in addresses)
        for key in sorted(seen):
            if key[0] in fresh:
                self.codes.setdefault(key, []).append(reading)
                self.worst(key)
        self.reports.append(reading)

    def subject(self, key: tuple[int, int, int]) -> str:
        return f"{key[1]}/{key[2]}/{key[0]}@{moment(self.codes[key][0].ping.recorded_at)}"

    def ranks(self, key: tuple[int, int, int]) -> list[int]:
        return [
            max(self.severity(f) for f in self.active(one) if (f.source_address, f.spn, f.fmi) == key)
            for one in self.codes[key]
            if any((f.source_address, f.spn, f.fmi) == key for f in self.active(one))
        ]

    def worst(self, key: tuple[int, int, int]) -> None:
        at, ranks = self.codes[key][-1].ping.recorded_at, self.ranks(key)
        if len(ranks) == 1:
            self.tell([("fault", self.subject(key), "opened")], at)
        elif ranks[-1] > max(ranks[:-1]):
            name = ("warning", "general", "major", "critical")[ranks[-1]]
            self.tell([("fault", self.subject(key), f"worsened-{name}")], at)

    def maybe_closed(
        self, key: tuple[int, int, int], history: list[Reading], reading: Reading, *, is_report: bool
    ) -> None:
        at, last = reading.ping.recorded_at, max(i for i, one in enumerate(history) if self.shows(one, key))
        if is_report:
            history.append(reading)
        absent = [one.ping.recorded_at for one in history[last + 1 :]]
        gone = is_report and len(absent) >= 2 and at - absent[0] >= timedelta(seconds=60)
        lapsed = reading.ping.engine_running is True and at - history[last].ping.recorded_at > 24 * HOUR
        if gone or lapsed:
            self.tell([("fault", self.subject(key), "cleared")], at)
            del self.codes[key]

    def shows(self, one: Reading, key: tuple[int, int, int]) -> bool:
        return any((fault.source_address, fault.spn, fault.fmi) == key for fault in self.active(one))

    # --- silence and sensors ------------------------------------------------------------------------------------

    def silence_at(self, at: datetime) -> None:
        if len(self.pings) < 3 or self.silent is not None:
            return
        received = [one.received_at for one in self.pings]
        if max(received) - min(received) >= 72 * HOUR and at >= max(received) + 72 * HOUR:
            last = [one for one in self.pings if one.received_at == max(received)][-1]
            self.silent = moment(last.ping.recorded_at)
            self.tell([("silence", self.silent, "opened")], max(received) + 72 * HOUR)

    def running(self, reading: Reading) -> bool | None:
        """As last reported, by this ping or by the newest report before it."""
        if reading.ping.engine_running is not None:
            return reading.ping.engine_running
        newest = max(self.engine, key=lambda one: one[0], default=None)
        return None if newest is None else [one for one in self.engine if one[0] == newest[0]][-1][1]

    def sensors(self, reading: Reading) -> None:
        at, running = reading.ping.recorded_at, self.running(reading)
        for field, beyond, back, seconds, engine_only in SENSORS:
            value = None if reading.ping.sensors is None else getattr(reading.ping.sensors, field)
            past = self.sensed[field]
            stops = engine_only and reading.ping.engine_running is False and bool(past) and (past[-1][1])
            if (value is None and not stops) or any(one[0] > at for one in past):
                continue
            is_beyond = value is not None and beyond(value) and (not engine_only or running is True)
            is_back = (value is not None and back(value)) or (engine_only and running is False)
            self.sense(field, at, seconds, is_beyond=is_beyond, is_back=is_back)
        if reading.ping.engine_running is not None:
            self.engine.append((at, reading.ping.engine_running))

    def sense(self, field: str, at: datetime, seconds: int, *, is_beyond: bool, is_back: bool) -> None:
        opened, past = self.open_sensors.get(field), self.sensed[field]
        if opened is not None:
            past.append((at, not is_back, False))
            if is_back:
                del self.open_sensors[field]
                self.tell([("sensor", opened, "cleared")], at)
            return
        past.append((at, is_beyond, True))
        run: list[datetime] = []
        for when, was_beyond, counts in reversed(past):
            if not was_beyond or not counts:
                break
            run.insert(0, when)
        if run and run[-1] - run[0] >= timedelta(seconds=seconds):
            self.open_sensors[field] = f"{field}@{moment(run[0])}"
            self.tell([("sensor", self.open_sensors[field], "opened")], at)
