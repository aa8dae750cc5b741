"""A bad deploy for one machine: the rules raise, the machine is parked, and goes on once they are mended."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from telemetry_svc.codec.command import machine_of
from telemetry_svc.ingest import desk
from telemetry_svc.rules import MachineState, Policy, Step, step
from telemetry_svc.telemetry import Input, MachineId, Reading, Tick
from tests.simulation.virtual_time import BEGIN_S
from tests.simulation.workload import BadRule


class BrokenRule(Exception):
    """What the bad rule raises."""


@contextmanager
def failing(bad: BadRule | None) -> Iterator[None]:
    """While this lasts the desk decides by rules that fail as `bad` says."""
    if bad is None:
        yield
        return

    def badly(policy: Policy, state: MachineState | None, given: Input) -> Step:
        now_s = asyncio.get_running_loop().time() - BEGIN_S
        if bad.from_s <= now_s < bad.to_s and _about(given) == bad.machine_id:
            raise BrokenRule
        return step(policy, state, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "step", badly)
        yield


def _about(given: Any) -> MachineId | None:
    match given:
        case Tick():
            return None
        case Reading():
            return given.ping.machine_id
        case command:
            return machine_of(command)
