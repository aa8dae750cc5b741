"""All thresholds and durations are policy data: the same rules under an edition in seconds (policy.md)."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from telemetry_svc.policies import load_policies
from telemetry_svc.rules import Policy
from telemetry_svc.telemetry import Fault, Geofence, Position, Reading, Sensors
from tests.policies.test_loading import REV1 as BUILT_IN
from tests.rules.machines import REV1, Run, machine, reading, utc

T0 = utc("2026-11-22 04:20:31")
IN_SECONDS = {
    "after: 72 h": "after: 3 s",
    "min_span: 72 h": "min_span: 1 s",
    "clears_after: 60 s": "clears_after: 1 s",
    "lapses_after: 24 h": "lapses_after: 20 s",
    "segment_after: 10 min": "segment_after: 2 s",
    "stands_for: 30 min": "stands_for: 2 s",
    "lasting: 60 s": "lasting: 500 ms",
    "openings: 20": "openings: 2",
    "    within: 24 h": "    within: 10 s",
    "overdue_after_h: 50": "overdue_after_h: 0.05",
    "milestones_h: [50, 250": "milestones_h: [1, 250",
    "lead_first_h: 10": "lead_first_h: 0.5",
    "over_m: 500": "over_m: 5",
    "stands_within_m: 50": "stands_within_m: 1",
}


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    directory: Path = tmp_path_factory.mktemp("policies")
    text = BUILT_IN.read_text(encoding="utf-8")
    for before, after in IN_SECONDS.items():
        assert before in text
        text = text.replace(before, after, 1)
    (directory / "fast.yaml").write_text(text, encoding="utf-8")
    return load_policies(directory)[REV1]


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def fix(seconds: float, north_deg: float, running: bool | None = None) -> Reading:
    return reading(
        at(seconds), position=Position(28.0 + north_deg, 112.0), engine_running=running, received_at=at(seconds)
    )


def test_every_duration_is_the_files(fast: Policy) -> None:
    run = Run(machine(geofence=Geofence(28.0, 112.0, 1e6)), policy=fast)
    assert run.read(reading(at(0), 0.5)) == ["inspection 1 upcoming"]
    assert run.read(reading(at(0), 0.6), reading(at(0), 0.7)) == []
    assert run.read(reading(at(1), 0.9), reading(at(1), 1.1)) == ["inspection 1 due", "inspection 1 overdue"]
    assert run.tick(at(6.5)) == ["silence 2026-11-22T04:20:32.000Z opened"]
    hot = Sensors(coolant_temperature_c=110)
    words = run.read(reading(at(7), sensors=hot), reading(at(7.5), sensors=hot))
    assert words[1:] == ["sensor coolant_temperature_c opened"]
    code = Fault(97, 3)
    assert run.read(reading(at(8), faults=(code,))) == ["storm 2026-11-22T04:20:39.000Z opened"], "the third in 10 s"
    assert run.read(reading(at(9), faults=()), reading(at(10), faults=())) == []
    assert run.tick(at(17)) == [], "the next silence, at 15 s, was swallowed and keeps the storm until 17.5 s"
    assert run.tick(at(17.5)) == ["storm 2026-11-22T04:20:39.000Z cleared"]


def test_segments_lapses_and_stays(fast: Policy) -> None:
    run = Run(policy=fast)
    run.read(reading(at(0), 0.1), reading(at(1), 500), reading(at(2), 500))
    assert run.read(reading(at(3), 500)) == ["hour_meter 2026-11-22T04:20:32.000Z cleared"]
    run.read(reading(at(100), faults=(Fault(97, 3),)))
    assert run.read(reading(at(120.001), engine_running=True)) == ["fault 97/3/0 cleared"]
    run.read(fix(200, 0.0, running=False))
    assert run.read(fix(201, 0.0001)) == ["position engine_off_movement opened"]
    assert run.read(fix(203, 0.0001)) == ["position engine_off_movement cleared"]
