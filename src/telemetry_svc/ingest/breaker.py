"""When so much fails that the fault is ours and not one machine's, ingest stands still (design.md, decision 16).

Among the last 500 records 100 or more that failed, of ten machines at the least, open the breaker: the batch is rolled
back and nothing is read any more, save one record every 30 s; once one comes through the rules, all goes on. What a
parked machine has to hold back counts as failed too, else a small fleet would be parked whole, machine by machine.

Nothing here knows a clock or a database: it is told what failed, at which place, and what time it is.
"""

from collections import Counter, deque
from collections.abc import Hashable

from msgspec import Struct


class BreakerLimits(Struct, frozen=True):
    """Opens at `share` failed among the last `window` records, from `machines` at least; then one record each
    `try_every_s`."""

    window: int = 500
    share: float = 0.2
    machines: int = 10
    try_every_s: float = 30.0


LIMITS = BreakerLimits()
"""Those of design.md."""


class Window:
    """The failures among the last records, fed in order."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._enough = limits.window * limits.share
        self._failures: deque[tuple[int, Hashable]] = deque()
        self._by_machine: Counter[Hashable] = Counter()

    def failed(self, place: int, machine: Hashable) -> bool:
        """Record number `place` failed; True where that is one too many. Places never fall."""
        self._failures.append((place, machine))
        self._by_machine[machine] += 1
        while self._failures[0][0] <= place - self._limits.window:
            _, gone = self._failures.popleft()
            self._by_machine[gone] -= 1
            if not self._by_machine[gone]:
                del self._by_machine[gone]
        return len(self._failures) >= self._enough and len(self._by_machine) >= self._limits.machines

    def copy(self) -> "Window":
        twin = Window(self._limits)
        twin._failures, twin._by_machine = self._failures.copy(), self._by_machine.copy()
        return twin


class Trial:
    """One batch as the breaker sees it: it counts only where the batch is stored (`Breaker.stored`).

    While the breaker is open a failure changes nothing: there is nothing left to open.
    """

    def __init__(self, window: Window, place: int, *, is_open: bool) -> None:
        self.window = window
        self._place = place
        self._is_open = is_open

    def failed(self, records_before: int, machine: Hashable) -> bool:
        """After so many records of the batch one of `machine` failed; True: the batch must not be stored."""
        if self._is_open:
            return False
        return self.window.failed(self._place + records_before, machine)


class Breaker:
    """Closed, or open since a moment; all times are seconds of one monotonic clock."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._window = Window(limits)
        self._records = 0
        self._try_at_s = 0.0
        self.open_since_s: float | None = None

    @property
    def is_open(self) -> bool:
        return self.open_since_s is not None

    def takes(self, now_s: float) -> int | None:
        """How many records may be read: None = any number; while it is open none, or one where it is time to try."""
        if self.open_since_s is None:
            return None
        return 1 if now_s >= self._try_at_s else 0

    def trial(self) -> Trial:
        """For one batch about to be decided."""
        return Trial(self._window.copy(), self._records, is_open=self.is_open)

    def opens(self, now_s: float) -> None:
        """A trial said so. The first record is tried after a whole interval."""
        self.open_since_s = now_s
        self._try_at_s = now_s + self._limits.try_every_s

    def tries(self, now_s: float) -> None:
        """The one record was handed out: no other until the next interval."""
        self._try_at_s = now_s + self._limits.try_every_s

    def stored(self, trial: Trial, records: int, *, passed: bool, failed: bool, now_s: float) -> bool:
        """A batch was stored; True where that closes the breaker.

        `passed`: something of it came through the rules. A record that neither passed nor failed (a tick, a repeat,
        garbage) tells nothing, so the next one is tried at once.
        """
        if not self.is_open:
            self._window, self._records = trial.window, self._records + records
            return False
        if passed:
            self.open_since_s, self._window, self._records = None, Window(self._limits), 0
            return True
        if records and not failed:
            self._try_at_s = now_s
        return False
