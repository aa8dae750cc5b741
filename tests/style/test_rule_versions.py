"""Each rule has a version, stored with what it decides; who changes a rule is asked whether it is another one now."""

import pytest

from tests.policies.test_reasons import everything
from tests.style import rule_pins
from tests.style.rule_pins import RULES, Pin

CODE = rule_pins.code()
MODULE_OF = {
    "speed": "position",
    "geofence": "position",
    "engine_off_movement": "movement",
    "outside_hours": "movement",
    "fault": "fault_codes",
    "inspection": "inspections",
    "checkup": "checkups",
}


def test_every_module_is_as_it_was_pinned() -> None:
    """docs/adding-a-rule.md, "Its version"; `python -m tests.style.rule_pins` pins what stands there now."""
    pinned = rule_pins.pinned()
    said = {name: rule_pins.verdict(pinned.get(name), pin) for name, pin in CODE.items()}
    assert {name: text for name, text in said.items() if text} == {}, rule_pins.__doc__
    assert pinned.keys() == CODE.keys(), rule_pins.__doc__


def test_a_rule_that_tells_facts_declares_a_version_and_nothing_else_does() -> None:
    telling = {path.stem for path in RULES.glob("*.py") if rule_pins.decides(path.read_text(encoding="utf-8"))}
    assert telling == {name for name, pin in CODE.items() if pin.version is not None}
    assert len(telling) == 10


def test_every_fact_carries_the_version_of_its_rule() -> None:
    seen = set()
    for event in everything().events:
        rule = getattr(event.data, "rule", event.rule)
        module = "sensors" if event.rule == "sensor" else MODULE_OF.get(rule, rule)
        assert event.rule_version == CODE[module].version
        seen.add(module)
    assert seen == {name for name, pin in CODE.items() if pin.version is not None}


SOURCE = "LIMIT = 5\nVERSION = 1\n\n\ndef step(x: int) -> bool:\n    return x >= LIMIT\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (SOURCE, None),
        (SOURCE.replace("    return", '    """What."""\n    # how\n    return'), None),
        (SOURCE.replace(">=", ">"), "still version 1: raise VERSION if it may now decide anything otherwise"),
        (SOURCE.replace("5", "6"), "still version 1: raise VERSION if it may now decide anything otherwise"),
        (SOURCE.replace(">=", ">").replace("VERSION = 1", "VERSION = 2"), "version 1 -> 2"),
    ],
    ids=["the same", "comments and docstrings", "another comparison", "another number", "another version"],
)  # fmt: skip
def test_what_counts_as_a_change(changed: str, said: str | None) -> None:
    assert rule_pins.verdict(rule_pins.pin_of(SOURCE), rule_pins.pin_of(changed)) == said


def test_shared_code_asks_for_the_rules_that_it_concerns() -> None:
    assert (rule_pins.verdict(Pin(None, "a"), Pin(None, "b")) or "").startswith("shared code changed")
