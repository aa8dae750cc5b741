"""The truth of fault episodes, by hand-made reports.

A report is (second, what was listed, engine): codes as SPN/FMI/address/lamp, None where `faults` was absent.
"""

from datetime import datetime, timedelta

import pytest

from telemetry_svc.simulate.clauses import fault_severity
from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.truth import truth
from tests.simulate.fleets import ME, MONDAY, excavator, keys

OIL = "100/1/0/red_stop"
COOLANT_AMBER, COOLANT_RED = "110/3/0/amber_warning", "110/3/0/red_stop"
GEARBOX = "639/19/3/malfunction"
NO_FAULT = "0/0/0/none"
DAY_S = 86_400

Report = tuple[int, list[str] | None] | tuple[int, list[str] | None, bool]


def delivery(second: int, listed: list[str] | None, running: bool = True, came_at_s: int | None = None) -> Delivery:
    recorded_at = MONDAY + timedelta(seconds=second)
    ping: dict[str, object] = {"machine_id": ME, "recorded_at": recorded_at.isoformat(), "engine_running": running}
    if listed is not None:
        ping["faults"] = [_fault(code) for code in listed]
    return Delivery(recorded_at if came_at_s is None else MONDAY + timedelta(seconds=came_at_s), ME, ping)


def _fault(code: str) -> dict[str, object]:
    spn, fmi, address, lamp = code.split("/")
    return {"spn": int(spn), "fmi": int(fmi), "source_address": int(address), "lamp": lamp}


def told(deliveries: list[Delivery]) -> list[str]:
    """Facts with the second at which they became true, in the order of time."""
    facts = truth([excavator()], deliveries, registered_at=MONDAY, until=MONDAY + timedelta(days=30))
    timed = sorted((_second(fact.time), key) for fact, key in zip(facts, keys(facts), strict=True))
    return [f"{second}: {key}" for second, key in timed]


def _second(time: datetime | None) -> int:
    assert time is not None
    return int((time - MONDAY).total_seconds())


def episode(code: str, at: str) -> str:
    return f"fault {code}@2026-03-02T{at}.000Z"


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([(0, []), (60, [NO_FAULT]), (120, None)], [], id="no active fault, said in three ways"),
        pytest.param(
            [(0, [OIL]), (60, []), (119, [])],
            [f"0: {episode('100/1/0', '00:00:00')} opened"],
            id="59 s clear: still open",
        ),
        pytest.param(
            [(0, [OIL]), (60, []), (120, [])],
            [f"0: {episode('100/1/0', '00:00:00')} opened", f"120: {episode('100/1/0', '00:00:00')} cleared"],
            id="60 s clear, two reports: cleared",
        ),
        pytest.param(
            [(0, [OIL]), (3600, [])], [f"0: {episode('100/1/0', '00:00:00')} opened"], id="one report does not clear"
        ),
        pytest.param(
            [(0, [OIL]), (60, []), (110, [OIL]), (130, []), (180, [])],
            [f"0: {episode('100/1/0', '00:00:00')} opened"],
            id="flapping: the clear time begins anew",
        ),
        pytest.param(
            [(0, [OIL]), (60, [NO_FAULT]), (120, [NO_FAULT]), (180, [OIL])],
            [
                f"0: {episode('100/1/0', '00:00:00')} opened",
                f"120: {episode('100/1/0', '00:00:00')} cleared",
                f"180: {episode('100/1/0', '00:03:00')} opened",
            ],
            id="again: a second episode",
        ),
        pytest.param(
            [(0, [COOLANT_AMBER]), (60, [COOLANT_RED]), (120, [COOLANT_AMBER]), (180, [COOLANT_RED])],
            [
                f"0: {episode('110/3/0', '00:00:00')} opened",
                f"60: {episode('110/3/0', '00:00:00')} worsened-critical",
            ],
            id="general turns critical once and never sinks",
        ),
        pytest.param(
            [(0, [GEARBOX]), (60, [OIL]), (120, [OIL]), (180, [OIL])],
            [f"0: {episode('639/19/3', '00:00:00')} opened", f"60: {episode('100/1/0', '00:01:00')} opened"],
            id="a list speaks only for the addresses in it",
        ),
        pytest.param(
            [(0, [GEARBOX]), (60, []), (120, [])],
            [f"0: {episode('639/19/3', '00:00:00')} opened", f"120: {episode('639/19/3', '00:00:00')} cleared"],
            id="an empty list speaks for every address",
        ),
        pytest.param(
            [(0, [OIL, COOLANT_RED]), (60, [OIL]), (120, [OIL])],
            [
                f"0: {episode('100/1/0', '00:00:00')} opened",
                f"0: {episode('110/3/0', '00:00:00')} opened",
                f"120: {episode('110/3/0', '00:00:00')} cleared",
            ],
            id="another code of the same address speaks, too",
        ),
        pytest.param(
            [(0, [GEARBOX]), (DAY_S, [OIL])],
            [f"0: {episode('639/19/3', '00:00:00')} opened", "86400: fault 100/1/0@2026-03-03T00:00:00.000Z opened"],
            id="24 h: not yet forgotten",
        ),
        pytest.param(
            [(0, [GEARBOX]), (DAY_S + 1, None, False), (DAY_S + 2, None), (DAY_S + 3, None)],
            [f"0: {episode('639/19/3', '00:00:00')} opened", f"86402: {episode('639/19/3', '00:00:00')} cleared"],
            id="more than 24 h, with the engine on: forgotten",
        ),
        pytest.param(
            [(0, [GEARBOX]), (DAY_S, [GEARBOX]), (DAY_S + 100, None)],
            [f"0: {episode('639/19/3', '00:00:00')} opened"],
            id="24 h count from when it was last active",
        ),
    ],
)
def test_episodes(reports: list[Report], expected: list[str]) -> None:
    assert told([delivery(*report) for report in reports]) == expected


def test_reports_older_than_the_latest_of_their_address_change_nothing() -> None:
    late = [delivery(30, [COOLANT_RED], came_at_s=130), delivery(90, [], came_at_s=131)]
    assert told([delivery(0, []), delivery(120, [OIL]), *late]) == [f"120: {episode('100/1/0', '00:02:00')} opened"]


def test_a_late_report_of_another_address_still_counts() -> None:
    late = delivery(30, [GEARBOX], came_at_s=130)
    assert told([delivery(0, []), delivery(120, [OIL]), late]) == [
        f"30: {episode('639/19/3', '00:00:30')} opened",
        f"120: {episode('100/1/0', '00:02:00')} opened",
    ]


def test_a_repeat_is_no_second_report() -> None:
    clear = delivery(60, [])
    assert told([delivery(0, [OIL]), clear, clear._replace(at=MONDAY + timedelta(seconds=500))]) == [
        f"0: {episode('100/1/0', '00:00:00')} opened"
    ]


@pytest.mark.parametrize(
    ("spn", "fmi", "lamp", "severity"),
    [
        (100, 15, "red_stop", "warning"),
        (629, 17, "none", "warning"),
        (629, 0, "red_stop", "critical"),
        (629, 1, "red_stop", "critical"),
        (629, 2, "red_stop", "major"),
        (98, 2, "red_stop", "critical"),
        (100, 2, "red_stop", "critical"),
        (110, 2, "red_stop", "critical"),
        (111, 2, "red_stop", "critical"),
        (175, 2, "red_stop", "critical"),
        (190, 2, "red_stop", "critical"),
        (110, 0, "amber_warning", "major"),
        (110, 1, "none", "major"),
        (110, 2, "amber_warning", "general"),
        (110, 16, "malfunction", "general"),
        (110, 18, "protect", "general"),
    ],
)
def test_severity_by_the_first_line_that_matches(spn: int, fmi: int, lamp: str, severity: str) -> None:
    assert fault_severity(spn, fmi, lamp) == severity
