"""The engine against a slow, obvious second opinion, on thousands of random lives."""

import pytest
from hypothesis import given, note
from msgspec.structs import replace

from telemetry_svc.rules import Policy, step
from telemetry_svc.telemetry import Input, Machine, Tick
from tests.rules.budget import budget
from tests.rules.histories import BEGIN, histories
from tests.rules.machines import policy, registration
from tests.rules.reference import Reference

# A search is three times as fast uncounted; what only a search reaches is covered by no case that names it.
pytestmark = pytest.mark.uncounted


def plain() -> Policy:
    """Without what the reference leaves to the scenario tables."""
    forecast = replace(policy().inspections.forecast, min_days=1_000_000)
    return replace(
        policy(),
        inspections=replace(policy().inspections, forecast=forecast),
        storm=replace(policy().storm, enabled=False),
    )


RULES = plain()


@given(histories(with_changes=False))
@budget(500)
def test_the_engine_decides_what_the_text_says(history: tuple[Machine, list[Input]]) -> None:
    machine, inputs = history
    reference = Reference(machine, BEGIN)
    last = step(RULES, None, registration(machine, BEGIN))
    told = {(event.rule, event.subject, event.stage) for event in last.events}
    assert told == reference.at_registration
    for one in inputs:
        note(f"{one}")
        check_at = last.state.next_check_at
        if isinstance(one, Tick) and (check_at is None or check_at > one.at):
            assert reference.give(one) == {}, "the machine should have waited for this tick"
            continue
        last = step(RULES, last.state, one)
        facts = {(event.rule, event.subject, event.stage): event.time for event in last.events}
        new = {key: at for key, at in facts.items() if key not in told}
        assert new == {key: at for key, at in reference.give(one).items() if key not in told}
        told |= set(new)
