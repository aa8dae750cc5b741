"""One machine's life once more: its inputs, and time passing between them, through `rules.step`.

Pure but for what it remembers; it is told how far time has surely passed, and which facts are known outside.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from telemetry_svc.events import Event
from telemetry_svc.rules import MachineState, Policy, Step, step
from telemetry_svc.telemetry import Command, Input, Reading, Tick

TICK_WITHIN = timedelta(seconds=120)
"""How late a tick may have come (contract.md, Alerts: "appears within 120 s")."""


class RulesFailed(RuntimeError):
    """A rule raised. The text names the error and the input."""


class Raised(Struct, frozen=True):
    """A fact, and when by the broker's clock it was decided."""

    event: Event
    at: datetime


class Course:
    """`state` after everything so far; `raised`: the first occurrence of each fact, in order."""

    def __init__(
        self,
        policy: Policy,
        state: MachineState | None,
        known: Collection[UUID],
        tick_within: timedelta = TICK_WITHIN,
    ) -> None:
        self._policy = policy
        self._known = known
        self._tick_within = tick_within
        self.state = state
        self.raised: dict[UUID, Raised] = {}
        self.inputs = 0
        self.refused = 0

    def take(self, given: Reading | Command) -> None:
        """One stored input. Raises `RulesFailed`."""
        outcome = self._step(given)
        self.inputs += 1
        self.refused += outcome.rejected is not None
        self._keep(outcome, given.received_at)

    def pass_time(self, until: datetime) -> None:
        """Ticks at the moments the state itself names. Raises `RulesFailed`.

        No record says at which second of its minute a tick came. Where the next input follows closely, what the tick
        decides counts only if it is known outside: else the tick came after that input.
        """
        while (at := self._next_check_at()) is not None and at <= until:
            outcome = self._step(Tick(at))
            if outcome.events and until - at < self._tick_within and not self._is_known(outcome.events):
                return
            self._keep(outcome, at)
            if self._next_check_at() == at:
                return

    def _next_check_at(self) -> datetime | None:
        return None if self.state is None else self.state.next_check_at

    def _is_known(self, events: tuple[Event, ...]) -> bool:
        return any(event.id in self._known for event in events)

    def _step(self, given: Input) -> Step:
        try:
            return step(self._policy, self.state, given)
        except Exception as error:
            kind = type(given).__name__.lower()
            message = f"the rules fail at a {kind}, after {self.inputs} inputs: {type(error).__name__}: {error}"
            raise RulesFailed(message) from error

    def _keep(self, outcome: Step, at: datetime) -> None:
        self.state = outcome.state
        for event in outcome.events:
            self.raised.setdefault(event.id, Raised(event, at))
