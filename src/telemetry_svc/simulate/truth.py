"""The facts that must come of a fleet, computed from what was delivered and the policy's text.

Independent of the service's rules on purpose: no state is carried from ping to ping. A milestone is due when the
highest hours that were ever delivered are at or over it, whatever the order; that is the whole of it. Only the *time*
of a fact asks which delivery came first.

Not judged: whatever a command does (inspections done, meter decisions), silence, position, sensors, storms, yearly
check-ups, and of a bad hour meter all but the planned spikes. *Upcoming* by forecast is the service's own arithmetic:
it may raise more of those than stand here, and earlier, but only for milestones still ahead.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from typing import NamedTuple
from zoneinfo import ZoneInfo

from telemetry_svc.simulate.clauses import (
    EXPIRING_LEAD_DAYS,
    EXPIRING_LEAD_H,
    MILESTONES_H,
    OVERDUE_AFTER_H,
    STRUCTURE_H,
    has_structure_warranty,
    upcoming_lead_h,
    warranty_h,
    warranty_months,
)
from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.fault_truth import fault_episodes
from telemetry_svc.simulate.observed import Moment, Seen, observe
from telemetry_svc.telemetry import Machine
from telemetry_svc.units import rfc3339_ms

DAYS_IN_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
FEBRUARY = 2


class Fact(NamedTuple):
    """One thing that must be raised: `rule`, `subject`, `stage` make its id (contract.md, Alerts).

    `time` is when it became true, None where the service may know it earlier by its own forecast.
    """

    machine_id: str
    rule: str
    subject: str
    stage: str
    time: datetime | None


class Hours(NamedTuple):
    """A machine's meter as delivered: `highest_ch[i]` is the highest of all readings up to `readings[i]`."""

    readings: Sequence[Seen]
    highest_ch: Sequence[int]

    def first_from(self, from_h: int) -> Seen | None:
        """The delivery that brought the hours to `from_h` or over."""
        index = bisect_left(self.highest_ch, from_h * 100)
        return self.readings[index] if index < len(self.readings) else None

    def first_between(self, from_h: int, below_h: int) -> Seen | None:
        """The first delivery after which the hours stood at `from_h` or over, but under `below_h`."""
        index = bisect_left(self.highest_ch, from_h * 100)
        inside = index < len(self.readings) and self.highest_ch[index] < below_h * 100
        return self.readings[index] if inside else None


class Coverage(NamedTuple):
    """A warranty: by hours, and by date from 00:00 of one day to 00:00 of another where the calendar ends it."""

    subject: str
    limit_h: int
    opens_at: datetime | None
    ends_at: datetime | None


def truth(
    machines: Iterable[Machine], deliveries: Iterable[Delivery], *, registered_at: datetime, until: datetime
) -> list[Fact]:
    """The facts that must have been raised once everything up to `until` was taken in, sorted.

    `deliveries` in the order of the broker; those of unknown machines count for nothing. `registered_at` and `until`
    are aware: what the calendar decides is settled before the first and not yet known after the second. For a fleet of
    the past that is registered today, give the moment of the real registration.
    """
    seen = observe(deliveries, registered_at, until)
    return sorted(
        (
            fact
            for machine in machines
            for fact in _facts(machine, seen.get(machine.machine_id, ()), registered_at, until)
        ),
        key=lambda fact: fact[:4],
    )


def _facts(machine: Machine, seen: Sequence[Seen], registered_at: datetime, until: datetime) -> Iterator[Fact]:
    readings = [reading for reading in seen if reading.meter_ch is not None]
    hours = _hours([reading for reading in readings if not reading.spike])
    yield from _inspections(machine, hours)
    for coverage in _coverages(machine):
        yield from _warranty(machine, coverage, hours, registered_at, until)
    for subject, stage, at in fault_episodes(seen):
        yield Fact(machine.machine_id, "fault", subject, stage, at)
    for subject, stage, at in _suspect_meters(readings):
        yield Fact(machine.machine_id, "hour_meter", subject, stage, at)


def _suspect_meters(readings: Sequence[Seen]) -> Iterator[tuple[str, str, datetime]]:
    """A spike opens an episode unless a newer reading came before it; the next reading that is newer clears it.

    Spikes are planned singly, with many true readings between them, so no episode holds two.
    """
    newest: datetime | None = None
    for index, reading in enumerate(readings):
        if newest is not None and reading.recorded_at <= newest:
            continue
        newest = reading.recorded_at
        if reading.spike:
            yield rfc3339_ms(newest), "opened", newest
            later = (other.recorded_at for other in readings[index:] if other.recorded_at > newest)
            if (cleared_at := next(later, None)) is not None:
                yield rfc3339_ms(newest), "cleared", cleared_at


def _hours(readings: Sequence[Seen]) -> Hours:
    """Every reading is taken as it is, the first one too; the hours never fall."""
    return Hours(readings, list(accumulate((reading.meter_ch or 0 for reading in readings), max)))


def _inspections(machine: Machine, hours: Hours) -> Iterator[Fact]:
    """I1, for the milestones that the hours at registration have not settled."""
    for milestone_h in MILESTONES_H:
        if machine.initial_ch >= milestone_h * 100:
            continue
        subject = str(milestone_h)
        if hours.first_between(milestone_h - upcoming_lead_h(milestone_h), milestone_h):
            yield Fact(machine.machine_id, "inspection", subject, "upcoming", None)
        if due := hours.first_from(milestone_h):
            yield Fact(machine.machine_id, "inspection", subject, "due", due.recorded_at)
        if overdue := hours.first_from(milestone_h + OVERDUE_AFTER_H):
            yield Fact(machine.machine_id, "inspection", subject, "overdue", overdue.recorded_at)


def _coverages(machine: Machine) -> Iterator[Coverage]:
    """W1 and W2."""
    limit_h = warranty_h(machine.tonnage_t)
    if machine.delivered_on is None:
        yield Coverage("machine", limit_h, None, None)
    else:
        last_day = months_after(machine.delivered_on, warranty_months(machine.tonnage_t))
        opens_at = _midnight(last_day - timedelta(days=EXPIRING_LEAD_DAYS), machine)
        yield Coverage("machine", limit_h, opens_at, _midnight(last_day + timedelta(days=1), machine))
    if has_structure_warranty(machine.policy_edition, machine.tonnage_t):
        yield Coverage("structure", STRUCTURE_H, None, None)


def _warranty(
    machine: Machine, coverage: Coverage, hours: Hours, registered_at: datetime, until: datetime
) -> Iterator[Fact]:
    """Expired by whichever is learned of first; expiring likewise, where it is learned of before the end."""
    ends_at, limit_h = coverage.ends_at, coverage.limit_h
    if machine.initial_ch >= limit_h * 100 or (ends_at is not None and ends_at <= registered_at):
        return
    window = hours.first_between(limit_h - EXPIRING_LEAD_H, limit_h)
    opened = _first(window, coverage.opens_at, registered_at, until)
    expired = _first(hours.first_from(limit_h), ends_at, registered_at, until)
    if opened and (expired is None or opened[0] < expired[0]):
        yield Fact(machine.machine_id, "warranty", coverage.subject, "expiring", opened[1])
    if expired:
        yield Fact(machine.machine_id, "warranty", coverage.subject, "expired", expired[1])


def _first(
    reading: Seen | None, day: datetime | None, registered_at: datetime, until: datetime
) -> tuple[Moment, datetime] | None:
    """What is learned of first, a reading or a day that has come, with the moment; and the time that it stands for."""
    learned = [(reading.moment, reading.recorded_at)] if reading else []
    if day is not None and max(day, registered_at) <= until:
        learned.append(((max(day, registered_at), 0), day))
    return min(learned, default=None)


def _midnight(day: date, machine: Machine) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(machine.time_zone)).astimezone(UTC)


def months_after(day: date, months: int) -> date:
    """The corresponding day, the last day of a month clamped: 31 August and 18 months make 28 or 29 February."""
    year, month0 = divmod(day.year * 12 + day.month - 1 + months, 12)
    leap = month0 + 1 == FEBRUARY and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return date(year, month0 + 1, min(day.day, DAYS_IN_MONTH[month0] + leap))
