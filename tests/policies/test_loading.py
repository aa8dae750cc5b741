"""Policy files: both editions whole, and every fault of a file named by file, line and reason (faults.md, 44)."""

from datetime import date, timedelta
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from telemetry_svc.events import Severity
from telemetry_svc.policies import PolicyError, check_files, load_file, load_policies
from telemetry_svc.telemetry import EditionId

EDITIONS = Path(str(files("telemetry_svc.policies") / "editions"))
REV1 = EDITIONS / "zoomlion-2011-rev1.yaml"
CLAUSES = [
    "W1",
    "W2",
    "W3",
    "I1",
    "I2",
    "S1",
    "S2",
    "S3",
    "S4",
    "C1",
    "E1",
    "R1",
    "R2",
    "R3",
    "R4",
    "T1",
    "V1",
    "V2",
    "A1",
    "V3",
]
ANOMALIES = ["fault_code", "hour_meter", "silence", "speed", "geofence", "movement", "sensors", "storm", "mass_event"]


def test_both_editions_with_every_clause_in_both_languages() -> None:
    policies = load_policies()
    assert set(policies) == {"zoomlion-2011", "zoomlion-2011-rev1"}
    for edition, policy in policies.items():
        assert policy.edition == edition
        assert policy.digest == sha256((EDITIONS / f"{edition}.yaml").read_bytes()).hexdigest()
        assert (policy.in_force_from, policy.in_force_until) == (date(2011, 1, 1), None)
        assert [one.clause for one in policy.clauses] == CLAUSES + ANOMALIES
        for one in policy.clauses:
            assert one.sentence_en.isascii()
            assert any("一" <= letter <= "鿿" for letter in one.sentence_zh)
            assert policy.clause(one.clause) is one
        assert policy.clause("Z9") is None


def test_the_numbers_are_the_policys() -> None:
    policy = load_policies()[EditionId("zoomlion-2011-rev1")]
    assert policy.inspections.milestones_h == (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 10000)
    assert (policy.inspections.lead_first_ch, policy.inspections.lead_ch) == (1_000, 5_000)
    assert [(row.limit_ch, row.months) for row in policy.warranty.machine.brackets] == [(200_000, 12), (300_000, 18)]
    assert (policy.hour_meter.rollback_ch, policy.hour_meter.slack_ch, policy.hour_meter.max_rate_pct) == (10, 20, 105)
    assert policy.silence.after == timedelta(hours=72)
    assert [(one.field, one.severity, one.call) for one in policy.sensors.sensors] == [
        ("coolant_temperature_c", Severity.CRITICAL, True),
        ("oil_pressure_kpa", Severity.CRITICAL, True),
        ("battery_v", Severity.WARNING, False),
        ("fuel_level_pct", Severity.WARNING, False),
    ]
    assert policy.fault_codes.critical_spns == {98, 100, 110, 111, 175, 190}
    assert (policy.storm.openings, policy.storm.within) == (20, timedelta(hours=24))
    levels = policy.service_levels
    assert [levels.call_back_s, levels.departure_s, levels.warned_at_share] == [900, 3600, 0.8]
    assert [levels.general_fault_s, levels.general_fault_share, levels.major_fault_s] == [86_400, 0.95, 86_400]


def test_the_call_queue_is_the_policys() -> None:
    queue = load_policies()[EditionId("zoomlion-2011-rev1")].call_queue
    assert list(queue.rank_offset_h) == [0, 0.5, 2, 4, 24, 36, 48, 60, 72]
    assert [queue.route_team_after_s, queue.route_anyone_after_s] == [600, 1200]
    assert [queue.urgent_route_team_after_s, queue.urgent_route_anyone_after_s] == [120, 240]
    assert (queue.lease_default_s, queue.lease_max_s, queue.leases_per_expert) == (120, 3600, 50)
    assert (queue.attempts_per_day, queue.attempts_per_task) == (2, 6)
    assert {one.name: (one.retry_after_s, one.urgent_retry_after_s) for one in queue.outcomes if not one.completes} == {
        "no_answer": (10_800, 300),
        "busy": (900, 300),
        "switched_off": (14_400, 900),
        "callback_later": (86_400, 1_800),
        "wrong_number": (None, None),
    }
    assert [one.name for one in queue.outcomes if one.completes] == [
        "answered_booked",
        "answered_declined",
        "answered_info",
        "already_serviced",
        "do_not_call",
    ]


@pytest.mark.parametrize(
    ("edition", "brackets"),
    [
        ("zoomlion-2011", [(0, 20, 500), (20, 30, 1000), (30, None, 1500)]),
        ("zoomlion-2011-rev1", [(0, 13, 500), (13, 30, 1000), (30, None, 1500)]),
    ],
)
def test_compensation_by_tonnage(edition: str, brackets: list[tuple[float, float | None, int]]) -> None:
    rows = load_policies()[EditionId(edition)].compensation.brackets
    assert [(row.from_t, row.below_t, row.per_day_yuan) for row in rows] == brackets


def changed(directory: Path, before: str, after: str, name: str = "own.yaml") -> Path:
    """The revised edition with one change."""
    text = REV1.read_text(encoding="utf-8")
    assert text.count(before) >= 1
    path = directory / name
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    return path


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("before", "after", "at", "reason"),
    [
        pytest.param(
            "every_months: 12", "every_months: twelve", "every_months: twelve", "R4.every_months", id="bad value"
        ),
        pytest.param("below_t: 13,", "below_t: 12,", "from_t: 13", "a gap between 12", id="bracket gap"),
        pytest.param('to: "12:00"}, {from: "14', 'to: "08:00"}, {from: "14', 'to: "08:00"', "ends before", id="window"),
        pytest.param(
            'from: "14:00", to: "19', 'from: "11:00", to: "19', 'from: "11:00"', "the one before it", id="windows"
        ),
        pytest.param(
            "expiring_before_h: 100", "expiring_before_h: 2000", "before_h: 2000", "before the cover", id="expiring"
        ),
        pytest.param("below_t: 13,", "below_t: 14,", "from_t: 13", "an overlap between 13", id="bracket overlap"),
        pytest.param(
            "{from_t: 0, below_t: 13", "{from_t: 1, below_t: 13", "from_t: 1,", "a gap between 0", id="from 0"
        ),
        pytest.param(
            "from_t: 30, below_t: null", "from_t: 30, below_t: 99", "from_t: 30", "no bracket from 99", id="open end"
        ),
        pytest.param(
            "1000, 1500, 2000, 2500", "1000, 2000, 1500, 2500", "milestones_h", "the ladder falls", id="milestones"
        ),
        pytest.param("36, 48, 60, 72", "36, 60, 48, 72", "rank_offset_h:", "the ladder falls", id="rank"),
        pytest.param("per_day_yuan: 1500", "per_day_yuan: 900", "- {from_t: 30", "the ladder falls", id="compensation"),
        pytest.param(
            "175, 190]", "175, 999999]", "critical_spns", "less than or equal to 524287", id="SPN out of range"
        ),
        pytest.param("175, 190]", "175, 424242]", "critical_spns", "unknown SPN 424242", id="unknown SPN"),
        pytest.param("[15, 17]", "[15, 32]", "warning_fmis", "less than or equal to 31", id="FMI"),
        pytest.param(
            "after: 72 h", "after: 72 hours", "after: 72 hours", "a duration is a number and one of", id="duration"
        ),
        pytest.param("  openings: 20", "  openingz: 20", "openingz", "openingz is not known", id="misspelt key"),
        pytest.param("until: null", "until: 2010-01-01", "until: 2010", "ends before it begins", id="dates"),
        pytest.param("clears_at: 99.75", "clears_at: 110", "clears_at: 110", "clears beyond", id="no hysteresis"),
        pytest.param(
            "over: 105, ", "over: 105, under: 3, ", "under: 3", "exactly one of over and under", id="two bounds"
        ),
        pytest.param("clears_at_kmh: 142.5", "clears_at_kmh: 200", "clears_at_kmh", "clears above", id="speed"),
        pytest.param("severity: general, call: false}", "severity: bad}", "severity: bad", "severity", id="severity"),
        pytest.param(
            "{name: busy,",
            "{name: no_answer,",
            "name: no_answer, completes: false, retry_after: 15",
            "twice",
            id="outcome twice",
        ),
        pytest.param(
            "route_anyone_after: 20 min",
            "route_anyone_after: 1 min",
            "route_anyone_after: 1",
            "before the team",
            id="routing",
        ),
        pytest.param(
            "attempts_per_day: 2",
            "attempts_per_day: 2\n  attempts_per_day: 3",
            "attempts_per_day: 3",
            "stands twice",
            id="key twice",
        ),
        pytest.param(
            "below_t: 20, limit", "below_t: null, limit", "from_t: 20", "follows the one without", id="two ends"
        ),
        pytest.param(
            "from_t: 13, below_t: 30", "from_t: 13, below_t: 13", "from_t: 13,", "is empty", id="empty bracket"
        ),
        pytest.param(
            "urgent_route_anyone_after: 4", "urgent_route_anyone_after: 1", "", "before the team", id="urgent"
        ),
        pytest.param("lease_default: 120 s", "lease_default: 4000 s", "", "longer than the longest", id="lease"),
        pytest.param("lease_default: 120 s", "lease_default: 120.5 s", "", "whole seconds", id="half a second"),
        pytest.param("overrides: []", "overrides: [{spn: 7, severity: major}]", "", "unknown SPN 7", id="override"),
        pytest.param(", next_contact: true", "", "wrong_number", "neither completes, retries nor", id="outcome"),
        pytest.param("field: battery_v", "field: fuel_level_pct", "", "stands twice", id="field twice"),
        pytest.param("over_kmh: 150", 'over_kmh: "150"', "over_kmh", "a number is wanted", id="number as text"),
        pytest.param("over_kmh: 150", "over_kmh: .nan", "over_kmh", "a number is wanted", id="not a number"),
        pytest.param("over_m: 500", "over_m: true", "over_m", "a number is wanted", id="yes as a number"),
        pytest.param("after: 72 h", "after: inf h", "after: inf h", "a duration is", id="for ever"),
        pytest.param("rollback_h: 0.1", "rollback_h: 0.123", "rollback_h", "at most two decimals", id="hours"),
        pytest.param("  R4:\n", "  R4: [\n", "", "not YAML", id="not YAML"),
        pytest.param("    every_months: 12\n", "", "R4:", "clauses.R4.every_months is missing", id="missing value"),
    ],
)
def test_a_fault_is_named_by_file_line_and_reason(
    tmp_path: Path, before: str, after: str, at: str, reason: str
) -> None:
    path = changed(tmp_path, before, after)
    findings = check_files([path])
    (found, *_) = [finding for finding in findings if reason in finding.reason]
    if at:
        assert found.line == line_of(path, at)
    with pytest.raises(PolicyError) as error:
        load_file(path)
    assert str(error.value) == f"{path}:{findings[0].line}: {findings[0].reason}"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_clause_must_be_there(tmp_path: Path, clause: str) -> None:
    path = changed(tmp_path, f"  {clause}:\n", f"  Q{clause}:\n")
    reasons = [finding.reason for finding in check_files([path])]
    assert f"clauses.{clause} is missing" in reasons


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_every_anomaly_must_be_there(tmp_path: Path, anomaly: str) -> None:
    path = changed(tmp_path, f"  {anomaly}:\n", f"  q{anomaly}:\n")
    assert f"anomalies.{anomaly} is missing" in [finding.reason for finding in check_files([path])]


def test_a_fault_of_shape_hides_no_broken_law(tmp_path: Path) -> None:
    path = changed(tmp_path, "  R4:", "  R5:")
    text = path.read_text(encoding="utf-8").replace("below_t: 20, limit_h: 2000", "below_t: 19, limit_h: 2000", 1)
    text = text.replace("[50, 250, 500,", "[50, 500, 250,", 1).replace("[98, 100, 110,", "[98, 97531, 110,", 1)
    path.write_text(text.replace("attempts_per_day: 2", "attempts_per_day: 0", 1), encoding="utf-8")
    reasons = [finding.reason for finding in check_files([path])]
    expected = ["R4 is missing", "R5 is not known", "a gap between 19", "ladder falls", "SPN 97531", "attempts_per_day"]
    assert len(reasons) == len(expected)
    for words in expected:
        assert [words in reason for reason in reasons].count(True) == 1, (words, reasons)


def test_all_faults_of_all_files_in_order(tmp_path: Path) -> None:
    one = changed(tmp_path, "attempts_per_day: 2", "attempts_per_day: 0", "one.yaml")
    one.write_text(one.read_text(encoding="utf-8").replace("every_months: 12", "every_months: -1"), encoding="utf-8")
    good, gone = changed(tmp_path, "edition: zoomlion-2011-rev1", "edition: own", "two.yaml"), tmp_path / "gone.yaml"
    findings = check_files([one, good, gone])
    assert [Path(finding.file).name for finding in findings] == ["one.yaml", "one.yaml", "gone.yaml"]
    assert findings[0].line < findings[1].line
    assert str(findings[2]) == f"{gone}:0: No such file or directory"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"42", b"edition: \xff", b"a: &x [*x]", b"\x00", b"- - -", b"? {a: b}\n: 1"]
)
def test_what_is_no_policy_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    assert len(check_files([path])) >= 1


def test_a_directory_adds_and_overrides(tmp_path: Path) -> None:
    changed(tmp_path, "edition: zoomlion-2011-rev1", "edition: in-seconds", "a.yaml")
    own = changed(tmp_path, "after: 72 h", "after: 2 s", "b.yml")
    (tmp_path / "notes.txt").write_text("not a policy")
    policies = load_policies(tmp_path)
    assert set(policies) == {"zoomlion-2011", "zoomlion-2011-rev1", "in-seconds"}
    assert policies[EditionId("zoomlion-2011-rev1")].silence.after == timedelta(seconds=2)
    assert policies[EditionId("zoomlion-2011-rev1")].digest == sha256(own.read_bytes()).hexdigest()


def test_one_edition_in_two_files_is_refused(tmp_path: Path) -> None:
    changed(tmp_path, "after: 72 h", "after: 2 s", "a.yaml")
    changed(tmp_path, "after: 72 h", "after: 3 s", "b.yaml")
    with pytest.raises(PolicyError, match=r"b\.yaml:1: the edition zoomlion-2011-rev1 also stands in .*a\.yaml"):
        load_policies(tmp_path)


def test_a_bad_file_of_the_directory_stops_the_start(tmp_path: Path) -> None:
    changed(tmp_path, "every_months: 12", "every_months: 0")
    with pytest.raises(PolicyError, match=r"own\.yaml:\d+: clauses\.R4\.every_months"):
        load_policies(tmp_path)
    with pytest.raises(PolicyError, match="no such directory"):
        load_policies(tmp_path / "nowhere")
