"""The truth of hours and dates, by hand-made machines with the policy's numbers on both sides of each threshold.

Each row is the whole truth of its machine: nothing else may stand beside what is named.
"""

from datetime import UTC, date, datetime, timedelta

import pytest

from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.truth import months_after, truth
from telemetry_svc.telemetry import Machine
from tests.simulate.fleets import MONDAY, excavator, raised, reading, readings

DUE_50 = ["inspection 50 due"]
OVERDUE_50 = ["inspection 50 due", "inspection 50 overdue"]


@pytest.mark.parametrize(
    ("hours_h", "expected"),
    [
        pytest.param((39.99,), [], id="39.99: nothing"),
        pytest.param((40.0,), ["inspection 50 upcoming"], id="40.00: 10 h before the first"),
        pytest.param((49.99,), ["inspection 50 upcoming"], id="49.99: still ahead"),
        pytest.param((50.0,), DUE_50, id="50.00: due, never upcoming"),
        pytest.param((45.0, 50.0), [*DUE_50, "inspection 50 upcoming"], id="45 then 50: upcoming, then due"),
        pytest.param((99.99,), DUE_50, id="99.99: not yet overdue"),
        pytest.param((100.0,), OVERDUE_50, id="100.00: overdue"),
        pytest.param((199.99,), OVERDUE_50, id="199.99: 250 not upcoming"),
        pytest.param((200.0,), ["inspection 250 upcoming", *OVERDUE_50], id="200.00: 50 h before the others"),
        pytest.param((249.99,), ["inspection 250 upcoming", *OVERDUE_50], id="249.99: 250 ahead"),
        pytest.param((249.99, 250.0), ["inspection 250 due", "inspection 250 upcoming", *OVERDUE_50], id="250.00: due"),
        pytest.param((250.0, 249.9), ["inspection 250 due", *OVERDUE_50], id="a hair back is no news"),
    ],
)
def test_inspections(hours_h: tuple[float, ...], expected: list[str]) -> None:
    assert raised(excavator(), readings(*hours_h)) == expected


@pytest.mark.parametrize(
    ("initial_h", "hours_h", "expected"),
    [
        pytest.param(50.0, 100.0, [], id="50.00 at registration: settled for good"),
        pytest.param(49.99, 100.0, OVERDUE_50, id="49.99 at registration: due by the reading"),
        pytest.param(245.0, 245.0, ["inspection 250 upcoming"], id="a lead waits for a reading"),
        pytest.param(200.0, 199.95, [], id="a first reading a hair under the registration is taken as it is"),
        pytest.param(9999.99, 10060.0, ["inspection 10000 due", "inspection 10000 overdue"], id="the last milestone"),
        pytest.param(10000.0, 12000.0, [], id="nothing after the last"),
    ],
)
def test_settled_at_registration(initial_h: float, hours_h: float, expected: list[str]) -> None:
    assert raised(excavator(initial_h=initial_h), readings(hours_h)) == expected


def test_a_lead_does_not_open_without_a_reading() -> None:
    assert raised(excavator(initial_h=2950.0), []) == []


@pytest.mark.parametrize(
    ("tonnage_t", "edition", "hours_h", "expected"),
    [
        pytest.param(19.9, "zoomlion-2011-rev1", 1899.99, [], id="19.9 t 1899.99"),
        pytest.param(19.9, "zoomlion-2011-rev1", 1900.0, ["warranty machine expiring"], id="19.9 t 1900"),
        pytest.param(19.9, "zoomlion-2011-rev1", 1999.99, ["warranty machine expiring"], id="19.9 t 1999.99"),
        pytest.param(19.9, "zoomlion-2011-rev1", 2000.0, ["warranty machine expired"], id="19.9 t 2000"),
        pytest.param(20.0, "zoomlion-2011-rev1", 2000.0, [], id="20.0 t takes the longer one"),
        pytest.param(20.0, "zoomlion-2011", 2999.99, ["warranty machine expiring"], id="20.0 t 2999.99"),
        pytest.param(20.1, "zoomlion-2011", 3000.0, ["warranty machine expired"], id="20.1 t 3000"),
        pytest.param(
            19.9,
            "zoomlion-2011-rev1",
            5900.0,
            ["warranty machine expired", "warranty structure expiring"],
            id="W2 5900",
        ),
        pytest.param(
            19.9, "zoomlion-2011-rev1", 6000.0, ["warranty machine expired", "warranty structure expired"], id="W2 6000"
        ),
        pytest.param(19.9, "zoomlion-2011", 6000.0, ["warranty machine expired"], id="no W2 under 20 t, text edition"),
        pytest.param(
            20.0, "zoomlion-2011", 6000.0, ["warranty machine expired", "warranty structure expired"], id="W2 at 20.0 t"
        ),
    ],
)
def test_warranty_by_hours(tonnage_t: float, edition: str, hours_h: float, expected: list[str]) -> None:
    found = raised(excavator(tonnage_t=tonnage_t, edition=edition), readings(hours_h))
    assert [key for key in found if key.startswith("warranty")] == expected


def test_a_warranty_over_at_registration_does_not_end_again() -> None:
    assert raised(excavator(tonnage_t=19.9, initial_h=2000.0), readings(2010.0)) == []


# Delivered on 10 March 2025 in Shanghai, 12 months: 10 March 2026 is the last covered day, 8 February opens the window.
DELIVERED_ON = date(2025, 3, 10)
WINDOW_OPENS = datetime(2026, 2, 7, 16, tzinfo=UTC)
ENDS = datetime(2026, 3, 10, 16, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
EXPIRING, EXPIRED = "warranty machine expiring", "warranty machine expired"


@pytest.mark.parametrize(
    ("registered_at", "until", "expected"),
    [
        pytest.param(MONDAY - timedelta(days=60), WINDOW_OPENS - A_SECOND, [], id="a second before the window"),
        pytest.param(MONDAY - timedelta(days=60), WINDOW_OPENS, [EXPIRING], id="the window opens"),
        pytest.param(MONDAY, MONDAY, [EXPIRING], id="a window open at registration is announced"),
        pytest.param(MONDAY, ENDS - A_SECOND, [EXPIRING], id="the last covered second"),
        pytest.param(MONDAY, ENDS, [EXPIRED, EXPIRING], id="00:00 of the next day, silent machine"),
        pytest.param(ENDS - A_SECOND, ENDS, [EXPIRED, EXPIRING], id="registered in the last second"),
        pytest.param(ENDS, ENDS + timedelta(days=9), [], id="registered after the end: settled"),
    ],
)
def test_warranty_by_date(registered_at: datetime, until: datetime, expected: list[str]) -> None:
    machine = excavator(tonnage_t=19.9, delivered_on=DELIVERED_ON)
    assert raised(machine, [], registered_at=registered_at, until=until) == expected


@pytest.mark.parametrize(("tonnage_t", "expected"), [(19.9, [EXPIRED, EXPIRING]), (20.0, []), (20.1, [])])
def test_from_20_t_on_the_warranty_lasts_18_months(tonnage_t: float, expected: list[str]) -> None:
    for edition in ("zoomlion-2011", "zoomlion-2011-rev1"):
        machine = excavator(tonnage_t=tonnage_t, edition=edition, delivered_on=DELIVERED_ON)
        assert raised(machine, [], until=ENDS) == expected


@pytest.mark.parametrize(
    ("time_zone", "ends_at"),
    [
        ("Asia/Shanghai", datetime(2026, 3, 10, 16, tzinfo=UTC)),
        ("Africa/Lagos", datetime(2026, 3, 10, 23, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2026, 3, 11, 7, tzinfo=UTC)),
        ("Pacific/Auckland", datetime(2026, 3, 10, 11, tzinfo=UTC)),
    ],
)
def test_the_day_ends_in_the_machine_s_own_zone(time_zone: str, ends_at: datetime) -> None:
    machine = excavator(tonnage_t=19.9, delivered_on=DELIVERED_ON, time_zone=time_zone)
    assert raised(machine, [], until=ends_at - A_SECOND) == [EXPIRING]
    assert raised(machine, [], until=ends_at) == [EXPIRED, EXPIRING]


@pytest.mark.parametrize(
    ("deliveries", "expected", "time"),
    [
        pytest.param([reading(2000.0, MONDAY)], [EXPIRED, EXPIRING], MONDAY, id="hours first, inside the window"),
        pytest.param(
            [reading(2000.0, ENDS + A_SECOND)],
            [EXPIRED, EXPIRING],
            ENDS,
            id="the date first, the hours end nothing again",
        ),
        pytest.param(
            [reading(2000.0, MONDAY, received_at=ENDS + A_SECOND)],
            [EXPIRED, EXPIRING],
            ENDS,
            id="an old reading that came after the date",
        ),
    ],
)
def test_one_end_whichever_comes_first(deliveries: list[Delivery], expected: list[str], time: datetime) -> None:
    machine = excavator(tonnage_t=19.9, delivered_on=DELIVERED_ON)
    found = [key for key in raised(machine, deliveries) if key.startswith("warranty")]
    assert found == expected
    assert _time_of(machine, deliveries, "expired") == time


def test_no_window_opens_after_the_hours_have_ended_it() -> None:
    machine = excavator(tonnage_t=19.9, delivered_on=DELIVERED_ON)
    early = WINDOW_OPENS - timedelta(days=1)
    found = raised(machine, [reading(2000.0, early)], registered_at=early)
    assert [key for key in found if key.startswith("warranty")] == [EXPIRED]


def _time_of(machine: Machine, deliveries: list[Delivery], stage: str) -> datetime | None:
    facts = truth([machine], deliveries, registered_at=MONDAY, until=MONDAY + timedelta(days=30))
    return next(fact.time for fact in facts if fact.stage == stage and fact.rule == "warranty")


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2025, 8, 31), 18, date(2027, 2, 28)),
        (date(2026, 8, 31), 18, date(2028, 2, 29)),
        (date(2024, 2, 29), 12, date(2025, 2, 28)),
        (date(2025, 12, 15), 12, date(2026, 12, 15)),
        (date(1998, 8, 30), 18, date(2000, 2, 29)),
        (date(2098, 8, 30), 18, date(2100, 2, 28)),
        (date(2025, 10, 31), 18, date(2027, 4, 30)),
    ],
)
def test_months_are_clamped_to_the_month_s_last_day(day: date, months: int, expected: date) -> None:
    assert months_after(day, months) == expected


# --- what was delivered, and when ---


def test_the_time_is_that_of_the_reading_that_came_first() -> None:
    late, early = reading(51.0, MONDAY), reading(60.0, MONDAY + timedelta(hours=9))
    swapped = [early, late._replace(at=early.at + A_SECOND)]
    assert _due_at([late, early]) == MONDAY
    assert _due_at(swapped) == MONDAY + timedelta(hours=9)


def _due_at(deliveries: list[Delivery]) -> datetime | None:
    facts = truth([excavator()], deliveries, registered_at=MONDAY, until=MONDAY + timedelta(days=1))
    return next(fact.time for fact in facts if fact.stage == "due")


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        pytest.param(timedelta(minutes=5), DUE_50, id="5 min ahead counts"),
        pytest.param(timedelta(minutes=5, milliseconds=1), [], id="a millisecond more is the future"),
    ],
)
def test_the_future_proves_nothing(ahead: timedelta, expected: list[str]) -> None:
    assert raised(excavator(), [reading(50.0, MONDAY + ahead, received_at=MONDAY)]) == expected


def test_only_what_was_delivered_by_then_counts() -> None:
    deliveries = [reading(50.0, MONDAY), reading(100.0, MONDAY + timedelta(days=2), MONDAY + timedelta(days=3))]
    assert raised(excavator(), deliveries, until=MONDAY + timedelta(days=3) - A_SECOND) == DUE_50
    assert raised(excavator(), deliveries, until=MONDAY + timedelta(days=3)) == OVERDUE_50


def test_a_stranger_s_pings_prove_nothing() -> None:
    stranger = reading(9050.0, MONDAY)._replace(machine_id="EXC-001")
    assert raised(excavator(), [stranger]) == []


AN_HOUR = timedelta(hours=1)
BEFORE, SPIKE, AFTER = (reading(hours_h, MONDAY + n * AN_HOUR) for n, hours_h in enumerate((30.0, 9030.0, 32.0)))
SUSPECT = "hour_meter 2026-03-02T01:00:00.000Z"


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        pytest.param([BEFORE, SPIKE], [f"{SUSPECT} opened"], id="a spike raises no milestone"),
        pytest.param(
            [BEFORE, SPIKE, AFTER], [f"{SUSPECT} cleared", f"{SUSPECT} opened"], id="the next reading clears it"
        ),
        pytest.param(
            [BEFORE, SPIKE, AFTER, SPIKE], [f"{SUSPECT} cleared", f"{SUSPECT} opened"], id="a repeat opens nothing"
        ),
        pytest.param([SPIKE, BEFORE], [f"{SUSPECT} opened"], id="an older reading clears nothing"),
        pytest.param([BEFORE, AFTER, SPIKE], [], id="a late spike is history"),
    ],
)
def test_a_spike_is_suspect_and_proves_nothing(deliveries: list[Delivery], expected: list[str]) -> None:
    lie = [one._replace(meter_true=one is not SPIKE, at=MONDAY + timedelta(days=1)) for one in deliveries]
    assert raised(excavator(), lie) == expected


def test_a_ping_without_a_meter_proves_nothing() -> None:
    silent = reading(0.0, MONDAY)
    del silent.ping["hour_meter_h"]
    assert raised(excavator(), [silent]) == []
