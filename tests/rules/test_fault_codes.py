"""Episodes of fault codes: opened, worsened, cleared by the complete rule; severities by the first match."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from telemetry_svc.events import Severity
from telemetry_svc.rules.fault_codes import SeverityOverride
from telemetry_svc.telemetry import Fault, Lamp, MachineStatus, Reading
from tests.rules.machines import Run, anomaly_data, policy, reading, utc

T0 = utc("2026-11-22 04:20:31")
HOT = Fault(110, 0, lamp=Lamp.RED_STOP)
OPENED, CLEARED = "fault 110/0/0 opened", "fault 110/0/0 cleared"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def report(seconds: float, *faults: Fault, running: bool | None = None) -> Reading:
    return reading(at(seconds), faults=faults, engine_running=running)


@pytest.mark.parametrize(
    ("fault", "severity"),
    [
        pytest.param(Fault(110, 0, lamp=Lamp.RED_STOP), Severity.CRITICAL, id="red stop with FMI 0"),
        pytest.param(Fault(639, 1, lamp=Lamp.RED_STOP), Severity.CRITICAL, id="red stop with FMI 1, any SPN"),
        pytest.param(Fault(98, 4, lamp=Lamp.RED_STOP), Severity.CRITICAL, id="red stop with one of the SPNs"),
        pytest.param(Fault(97, 4, lamp=Lamp.RED_STOP), Severity.MAJOR, id="red stop alone"),
        pytest.param(Fault(97, 0), Severity.MAJOR, id="FMI 0 alone"),
        pytest.param(Fault(97, 1, lamp=Lamp.AMBER_WARNING), Severity.MAJOR, id="FMI 1 with amber"),
        pytest.param(Fault(110, 16, lamp=Lamp.AMBER_WARNING), Severity.GENERAL, id="every other code"),
        pytest.param(Fault(110, 15, lamp=Lamp.RED_STOP), Severity.WARNING, id="FMI 15 comes first in the list"),
        pytest.param(Fault(190, 17, lamp=Lamp.RED_STOP), Severity.WARNING, id="FMI 17 too"),
        pytest.param(Fault(0, 31), Severity.GENERAL, id="SPN 0 with another FMI is a code"),
    ],
)
def test_severity(fault: Fault, severity: Severity) -> None:
    run = Run()
    assert run.read(report(0, fault)) == [f"fault {fault.spn}/{fault.fmi}/0 opened"]
    assert anomaly_data(run.events[0]).severity is severity


@pytest.mark.parametrize(
    ("fault", "severity"),
    [
        pytest.param(Fault(110, 0, lamp=Lamp.RED_STOP), Severity.WARNING, id="every FMI of an SPN, before all else"),
        pytest.param(Fault(97, 15), Severity.CRITICAL, id="one FMI of an SPN"),
        pytest.param(Fault(97, 16), Severity.GENERAL, id="another FMI of it"),
        pytest.param(Fault(98, 15), Severity.WARNING, id="that FMI of another SPN"),
    ],
)
def test_overrides_of_a_file_come_first(fault: Fault, severity: Severity) -> None:
    overrides = (SeverityOverride(110, Severity.WARNING), SeverityOverride(97, Severity.CRITICAL, fmi=15))
    block = replace(policy().fault_codes, overrides=overrides)
    run = Run(policy=replace(policy(), fault_codes=block))
    run.read(report(0, fault))
    assert anomaly_data(run.events[0]).severity is severity


def test_a_rule_that_is_switched_off_says_nothing() -> None:
    run = Run(policy=replace(policy(), fault_codes=replace(policy().fault_codes, enabled=False)))
    assert run.read(report(0, HOT), report(60), report(120)) == []


def test_the_ids_are_the_contracts() -> None:
    run = Run()
    run.read(report(0, Fault(110, 0)), report(1, HOT), report(60), report(120))
    assert [str(event.id) for event in run.events] == [
        "954a1c31-6fc9-5eb6-a1f5-ac44ee7d96e5",
        "58467ac2-c7a1-5b18-a613-1f3296a78a4b",
        "34fd7c81-a5f0-50fb-968d-934b0f1e9cb5",
    ]
    assert [anomaly_data(event).phase for event in run.events] == ["opened", "worsened", "cleared"]
    assert {anomaly_data(event).episode for event in run.events} == {"fault|110/0/0@2026-11-22T04:20:31.000Z"}
    assert anomaly_data(run.events[2]).severity is Severity.CRITICAL, "severity never sinks"
    assert anomaly_data(run.events[2]).policy_clause == "R1"
    assert isinstance(run.events[0].id, UUID)


@pytest.mark.parametrize(
    ("reports", "cleared_at"),
    [
        pytest.param([report(10)], None, id="one report without it is not enough"),
        pytest.param([report(10), report(69.999)], None, id="two, 59.999 s apart"),
        pytest.param([report(10), report(70)], 70, id="two, 60 s apart"),
        pytest.param([report(10), report(30), report(69), report(70)], 70, id="the last 60 s after the first"),
        pytest.param([report(10), report(50, HOT), report(70), report(129)], None, id="active again: counted anew"),
        pytest.param([report(10), report(50, HOT), report(70), report(130)], 130, id="active again, then gone"),
        pytest.param([report(10, Fault(1, 2, source_address=3)), report(70)], None, id="a list of another address"),
        pytest.param([report(10, Fault(1, 2)), report(70, Fault(1, 2))], 70, id="a list of the same address"),
        pytest.param([report(10, Fault(0, 0)), report(70, Fault(0, 0))], 70, id="SPN 0 FMI 0 of the same address"),
        pytest.param([reading(at(10), 5), reading(at(90), 5)], None, id="absent faults are no report"),
        pytest.param([reading(at(86_400), engine_running=True)], None, id="24 h after, running: not more than 24 h"),
        pytest.param([reading(at(86_400.001), engine_running=True)], 86_400.001, id="more than 24 h after, running"),
        pytest.param([reading(at(86_401), 5)], None, id="more than 24 h after, engine not reported"),
        pytest.param(
            [reading(at(5), engine_running=True), reading(at(86_401), 5)],
            None,
            id="the engine was on before",
        ),
        pytest.param([reading(at(86_401), engine_running=False)], None, id="more than 24 h after, engine off"),
        pytest.param(
            [report(86_401, Fault(1, 2, source_address=9), running=True)], 86_401, id="other codes count as without it"
        ),
        pytest.param([report(86_401, HOT, running=True)], None, id="still active after a day"),
        pytest.param([report(10), report(-5), report(9)], None, id="reports older than the latest one are history"),
        pytest.param(
            [report(-10, Fault(0, 0)), report(100, Fault(0, 0))],
            None,
            id="older than when it was active: no first report",
        ),
        pytest.param(
            [report(80_000, HOT), reading(at(166_400), engine_running=True)], None, id="24 h after it was last active"
        ),
        pytest.param(
            [report(80_000, HOT), reading(at(166_401), engine_running=True)], 166_401, id="more than 24 h after it was"
        ),
    ],
)
def test_closing(reports: list[Reading], cleared_at: float | None) -> None:
    run = Run()
    assert run.read(report(0, HOT)) == [OPENED]
    words = [one for one in run.read(*reports) if one.startswith("fault 110")]
    assert words == ([] if cleared_at is None else [CLEARED])
    if cleared_at is not None:
        assert run.one(CLEARED).time == at(cleared_at)


def test_flapping_is_one_episode() -> None:
    run = Run()
    flaps = [report(3 * n, *([HOT] if n % 2 == 0 else [])) for n in range(400)]
    assert run.read(*flaps) == [OPENED]


def test_a_report_older_than_the_latest_of_its_address_changes_nothing() -> None:
    run = Run()
    run.read(report(100))
    assert run.read(report(99, HOT)) == []
    assert run.read(report(100, HOT)) == [OPENED]
    assert run.read(report(50, Fault(100, 1, source_address=7))) == []


def test_an_older_empty_list_forgets_no_later_report_of_an_address() -> None:
    run = Run()
    assert run.read(report(200, Fault(0, 0, source_address=3)), report(100)) == []
    assert run.read(report(150, Fault(1, 2, source_address=3))) == []
    assert run.read(report(150, Fault(1, 2, source_address=4))) == ["fault 1/2/4 opened"]
    assert run.read(report(200, Fault(1, 2, source_address=3))) == ["fault 1/2/3 opened"]


def test_a_late_list_of_an_address_does_not_make_way_for_another() -> None:
    run = Run()
    run.read(report(0, HOT), report(200, Fault(0, 0, source_address=3)))
    assert run.read(report(150, Fault(0, 0, source_address=3)), report(170, Fault(1, 2, source_address=3))) == []


def test_an_empty_list_is_a_report_of_every_address_while_a_code_is_open_too() -> None:
    run = Run()
    assert run.read(report(0, HOT), report(10), report(5, Fault(1, 2, source_address=7))) == [OPENED]


def test_a_ping_without_faults_is_no_report() -> None:
    run = Run()
    assert run.read(reading(at(100), 5), report(50, HOT)) == [OPENED]


@pytest.mark.parametrize("seconds", [0, 10])
@pytest.mark.parametrize("first", [HOT, Fault(0, 0)])
def test_an_empty_list_makes_the_times_of_the_addresses_superfluous(first: Fault, seconds: float) -> None:
    run = Run()
    run.read(report(0, first))
    assert list(run.state.faults.addresses) == [(0, at(0))]
    run.read(report(seconds))
    assert run.state.faults.all_at == at(seconds)
    assert list(run.state.faults.addresses) == []


def test_other_addresses_have_their_own_time() -> None:
    run = Run()
    run.read(report(100, HOT))
    assert run.read(report(50, Fault(100, 1, source_address=7))) == ["fault 100/1/7 opened"]


def test_codes_of_one_ping_in_order_of_address_spn_fmi() -> None:
    run = Run()
    codes = [Fault(9, 3, source_address=2), Fault(9, 2, source_address=2), Fault(700, 5), Fault(8, 9, source_address=2)]
    assert run.read(report(0, *codes)) == [
        "fault 700/5/0 opened",
        "fault 8/9/2 opened",
        "fault 9/2/2 opened",
        "fault 9/3/2 opened",
    ]


def test_the_same_code_twice_in_one_list_is_its_most_severe() -> None:
    run = Run()
    assert run.read(report(0, HOT, Fault(110, 0))) == [OPENED]
    assert anomaly_data(run.events[0]).severity is Severity.CRITICAL


def test_worsening_happens_once_per_severity_and_never_back() -> None:
    run = Run()
    run.read(report(0, Fault(110, 16)), report(1, Fault(110, 16, lamp=Lamp.RED_STOP)))
    assert run.words == ["fault 110/16/0 opened", "fault 110/16/0 worsened-critical"]
    assert run.events[1].time == at(1)
    assert run.read(report(2, Fault(110, 16)), report(3, Fault(110, 16, lamp=Lamp.RED_STOP))) == []


def test_what_opened_and_its_measured_values_are_told() -> None:
    run = Run()
    run.read(report(0, Fault(110, 0, 5, 3, Lamp.AMBER_WARNING)))
    data = anomaly_data(run.events[0])
    assert data.fault is not None
    assert (data.fault.spn, data.fault.fmi, data.fault.source_address, data.fault.lamp) == (110, 0, 3, "amber_warning")
    assert data.fault.description == (
        "Engine Coolant Temperature: data valid but above normal operational range, most severe level"
    )
    assert data.measured == {"occurrence_count": 5}
    assert (data.kind, data.rule, data.recorded_at) == ("fault", "fault", T0)


def test_the_end_tells_of_the_code_as_it_was_last_active() -> None:
    run = Run()
    run.read(report(0, Fault(110, 0, 5)), report(1, Fault(110, 0, 6, 0, Lamp.AMBER_WARNING)), report(10), report(70))
    data = anomaly_data(run.one(CLEARED))
    assert data.fault is not None
    assert (data.fault.lamp, data.measured) == ("amber_warning", {"occurrence_count": 6})


def test_a_code_without_a_name_goes_by_its_numbers() -> None:
    assert policy().fault_codes.description(520_192, 99) == "SPN 520192: FMI 99"


def test_retired_ends_open_episodes_without_an_event() -> None:
    run = Run()
    run.read(report(0, HOT))
    assert run.change(at(10), status=MachineStatus.RETIRED) == []
    assert run.read(report(20, HOT), report(30), report(300)) == []
    assert run.change(at(400)) == []
    assert run.read(report(500), report(600)) == []
    assert run.read(report(700, HOT)) == [OPENED]


def test_future_reports_raise_nothing_then_or_later() -> None:
    run = Run()
    assert run.read(reading(at(1_000), faults=(HOT,), received_at=T0)) == []
    assert run.read(report(0, HOT)) == [OPENED]


def test_a_flood_of_codes_is_bounded() -> None:
    run = Run()
    for page in range(40):
        run.read(report(0, *[Fault(1_000 + 64 * page + n, 3) for n in range(64)]))
    assert len(run.state.faults.codes) == 1_024
