"""The hour meter once more, slow and obvious, by the words of policy.md; nothing here is imported from `rules/`.

All accepted and all held readings are kept and looked through each time; fractions, so that a limit is exact.
"""

from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from telemetry_svc.telemetry import Machine, Reading

HOUR = timedelta(hours=1)
Told = tuple[str, str, str]
"""Rule, subject, stage."""


def hours_of(value: timedelta) -> Fraction:
    return Fraction(value // timedelta(milliseconds=1), 3_600_000)


def shown(reading: Reading) -> Fraction:
    return Fraction(reading.ping.hour_meter_ch or 0, 100)


def moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(0), ZoneInfo(zone)).astimezone(UTC)


def months_later(day: date, months: int) -> date:
    """The corresponding day; where the month has no such day, the last one it has."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")


class Meter:
    """Accepted readings (as true hours) and held ones, by the words of the anomaly "hour meter"."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.initial = Fraction(machine.initial_ch, 100)
        self.offset = Fraction(0)
        self.accepted: list[tuple[datetime, Fraction]] = []  # as shown
        self.true: Fraction | None = None
        self.held: list[Reading] = []
        self.replaced = False
        self.rejected: datetime | None = None

    def inside(self, at: datetime, value: Fraction, before: datetime, was: Fraction) -> bool:
        rise = value - was
        return -Fraction(1, 10) <= rise <= hours_of(at - before) * Fraction(105, 100) + Fraction(2, 10)

    def first_fits(self, at: datetime, value: Fraction) -> bool:
        if value < self.initial - Fraction(1, 10):
            return False
        if self.machine.delivered_on is None:
            return True
        since = hours_of(at - midnight(self.machine.delivered_on, self.machine.time_zone))
        return value <= self.initial + 50 + max(since, Fraction(0)) * Fraction(105, 100)

    def last_true(self) -> Fraction:
        return self.initial if self.true is None else self.true

    def segment(self, at: datetime, value: Fraction) -> None:
        self.true = self.last_true()
        self.offset = self.true - value
        self.accepted = [(at, value)]
        self.rejected = None

    def consistent_run(self) -> list[Reading]:
        """The held readings at the end that agree one by one, one per instant."""
        run = [self.held[-1]]
        for earlier in reversed(self.held[:-1]):
            later = run[0]
            if not self.inside(later.ping.recorded_at, shown(later), earlier.ping.recorded_at, shown(earlier)):
                break
            run.insert(0, earlier)
        return run

    def read(self, reading: Reading) -> tuple[list[Told], Fraction | None]:
        """What opened or closed, and the reading's own true hours where it counts."""
        at, value = reading.ping.recorded_at, shown(reading)
        base = max(reversed(self.accepted), key=lambda one: one[0], default=None)  # of one instant, the last
        if base is not None and at < base[0]:
            if not self.inside(base[0], base[1], at, value):
                return [], None
            self.true = max(self.last_true(), value + self.offset)
            return [], value + self.offset
        if self.replaced:
            self.replaced = False
            self.segment(at, value)
            return [], None
        fits = self.first_fits(at, value) if base is None else self.inside(at, value, *base)
        if not fits:
            return self.hold(reading), None
        self.accepted.append((at, value))
        self.true = value + self.offset if self.true is None else max(self.true, value + self.offset)
        return self.close() if self.held and at >= self.held[-1].ping.recorded_at else [], value + self.offset

    def hold(self, reading: Reading) -> list[Told]:
        at = reading.ping.recorded_at
        if not self.held:
            if self.rejected is not None and at <= self.rejected:
                return []
            self.held = [reading]
            return [("hour_meter", moment(at), "opened")]
        if at < self.held[-1].ping.recorded_at:
            return []
        self.held.append(reading)
        run = self.consistent_run()
        instants = {one.ping.recorded_at for one in run}
        if len(instants) >= 3 and max(instants) - min(instants) >= timedelta(minutes=10):
            self.segment(at, shown(reading))
            return self.close()
        return []

    def close(self) -> list[Told]:
        opened = moment(self.held[0].ping.recorded_at)
        self.held = []
        return [("hour_meter", opened, "cleared")]

    def decide(self, word: str) -> tuple[list[Told], Reading | None]:
        """What closed, and the reading an operator made true."""
        if not self.held:
            self.replaced = self.replaced or word == "replaced"
            return [], None
        last = self.held[-1]
        if word == "accept":
            if shown(last) + self.offset < self.last_true():
                return [], None
            self.true = shown(last) + self.offset
            self.accepted = [(last.ping.recorded_at, shown(last))]
            self.rejected = None
            return self.close(), last
        if word == "replaced":
            self.segment(last.ping.recorded_at, shown(last))
        if word == "reject":
            self.rejected = last.ping.recorded_at
        return self.close(), None
