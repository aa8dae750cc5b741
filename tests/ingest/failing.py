"""A bad deploy: `rules.step` as ingest calls it, raising where a test says so, until it is mended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from telemetry_svc.ingest import desk
from telemetry_svc.rules import MachineState, Policy, Step, step
from telemetry_svc.telemetry import Input, Reading, Registration, Tick


@dataclass
class Deploy:
    """`fails`: for which (machine, input) the rules raise; `failed`: how often they did."""

    fails: Callable[[str, Input], bool]
    failed: list[str] = field(default_factory=list)

    def mend(self) -> None:
        self.fails = lambda _machine_id, _given: False

    def step(self, policy: Policy, state: MachineState | None, given: Input) -> Step:
        machine_id = machine_of(state, given)
        if self.fails(machine_id, given):
            self.failed.append(machine_id)
            raise ZeroDivisionError("a defect of this deploy")
        return step(policy, state, given)


def machine_of(state: MachineState | None, given: Input) -> str:
    if state is not None:
        return state.machine.machine_id
    assert isinstance(given, Registration)
    return given.machine.machine_id


@contextmanager
def deployed(fails: Callable[[str, Input], bool]) -> Iterator[Deploy]:
    """The rules of ingest are these until the end of the block."""
    bad = Deploy(fails)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "step", bad.step)
        yield bad


def every_reading(_machine_id: str, given: Input) -> bool:
    return isinstance(given, Reading)


def of(machine_id: str) -> Callable[[str, Input], bool]:
    """Whatever comes of one machine, save that time passes."""
    return lambda failing, given: failing == machine_id and not isinstance(given, Tick)
