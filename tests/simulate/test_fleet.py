"""The fleet: the same for ever, on both sides of every bracket, awake somewhere at any hour."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import pytest
from hypothesis import given, settings

from telemetry_svc.simulate.delivery import iter_deliveries
from telemetry_svc.simulate.fleet import PLACES, TONNAGES_T, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from tests.simulate.fleets import MONDAY, specs

SPEC = FleetSpec(
    seed=7,
    machines=12,
    start=MONDAY,
    hours=30,
    duplicates=0.1,
    late=0.2,
    faults=2.0,
    clock_faults=2,
    meter_spikes=2,
    ping_every_s=300,
)
DIGEST_PROGRAM = "from tests.simulate.test_fleet import SPEC, digest; print(digest(SPEC))"
MACHINE_V1 = {
    "machine_id", "tonnage_t", "model", "delivered_on", "time_zone", "policy_edition", "initial_hours_h", "status",
    "device_ids", "expert_id", "team_id", "customer_id", "customer_name", "customer_phone", "geofence",
    "permitted_hours",
}  # fmt: skip
CALL_WINDOWS_MIN = ((8 * 60 + 30, 12 * 60), (14 * 60, 19 * 60 + 30))


def digest(spec: FleetSpec) -> str:
    fleet = build_fleet(spec)
    lines = [msgspec.json.encode(machine) for machine in fleet.registrations()]
    lines += [msgspec.json.encode(delivery) for delivery in iter_deliveries(fleet)]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def test_the_same_seed_is_the_same_bytes_in_another_process_too() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST_PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert digests == {digest(SPEC)}


def test_another_seed_is_another_fleet() -> None:
    assert digest(SPEC) != digest(replace(SPEC, seed=8))


def test_a_larger_fleet_begins_with_the_smaller_one() -> None:
    larger = build_fleet(replace(SPEC, machines=20, meter_spikes=0))
    assert larger.plans[:12] == build_fleet(replace(SPEC, meter_spikes=0)).plans


def test_every_tonnage_of_the_brackets_is_there_under_both_editions() -> None:
    fleet = build_fleet(replace(SPEC, machines=2 * len(TONNAGES_T)))
    kinds = {(machine.tonnage_t, machine.policy_edition) for machine in fleet.machines}
    brackets_t = (12.9, 13.0, 19.9, 20.0, 20.1, 29.9, 30.0)
    assert kinds >= {
        (tonnage, edition) for tonnage in brackets_t for edition in ("zoomlion-2011", "zoomlion-2011-rev1")
    }


@pytest.mark.parametrize("day", [date(2026, 1, 13), date(2026, 7, 14)], ids=["winter", "summer"])
def test_at_any_minute_some_customer_may_be_called(day: date) -> None:
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("UTC"))
    silent = [
        minute
        for minute in range(0, 24 * 60, 5)
        if not any(_in_window(midnight + timedelta(minutes=minute), place.time_zone) for place in PLACES)
    ]
    assert silent == []


def _in_window(at: datetime, time_zone: str) -> bool:
    local = at.astimezone(ZoneInfo(time_zone))
    return any(from_min <= local.hour * 60 + local.minute < to_min for from_min, to_min in CALL_WINDOWS_MIN)


@settings(max_examples=30, deadline=None)
@given(spec=specs)
def test_registrations_are_machine_v1(spec: FleetSpec) -> None:
    for fields in build_fleet(spec).registrations():
        assert fields.keys() <= MACHINE_V1
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(fields["machine_id"]))
        assert 0.5 <= float(str(fields["tonnage_t"])) <= 1000
        assert fields["policy_edition"] in {"zoomlion-2011", "zoomlion-2011-rev1"}
        assert float(str(fields["initial_hours_h"])) >= 0
        assert fields["time_zone"] in available_timezones()
        assert date.fromisoformat(str(fields.get("delivered_on", "2000-01-01"))) <= spec.start.date()
        for window in msgspec.convert(fields.get("permitted_hours", []), list[dict[str, object]]):
            assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(window["from"]))
            assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(window["to"]))


def test_phone_numbers_ring_nowhere() -> None:
    """E.164 in country code 999, which is not assigned."""
    phones = {str(fields["customer_phone"]) for fields in build_fleet(SPEC).registrations()}
    assert len(phones) == 6
    assert all(re.fullmatch(r"\+999\d{9}", phone) for phone in phones)


def test_fault_episodes_of_one_code_never_touch() -> None:
    for plan in build_fleet(replace(SPEC, hours=2000, faults=4.0)).plans:
        assert plan.faults
        for code in {episode.code for episode in plan.faults}:
            same = [episode for episode in plan.faults if episode.code == code]
            assert all(later.start_s > earlier.end_s for earlier, later in pairwise(same))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"start": datetime(2026, 3, 2)}, "aware"),  # noqa: DTZ001
        ({"machines": 0}, "machines"),
        ({"hours": 0}, "hours"),
        ({"duplicates": 0.81}, "duplicates"),
        ({"late": -0.01}, "late"),
        ({"faults": 4.1}, "faults"),
        ({"ping_every_s": 1}, "2 s apart"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_simulated_is_refused(wrong: dict[str, object], what: str) -> None:
    asked = {"seed": 1, "machines": 1, "start": MONDAY, "hours": 1, **wrong}
    with pytest.raises(ValueError, match=what):
        FleetSpec(**asked)  # type: ignore[arg-type]
