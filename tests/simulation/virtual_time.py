"""A loop whose time only moves when everybody waits, and the clock that goes by it.

What takes a minute of the service's time takes as long as its steps need, and the same steps come in the same order in
every process: nothing here asks the machine's own clock.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

START = datetime(2026, 11, 21, 15, 59, 50, tzinfo=UTC)
"""Ten seconds before midnight in Shanghai: what the calendar decides at 00:00 is decided in the middle of a run."""

BEGIN_S = 1_000.0


class NobodyWaits(Exception):
    """Every task waits for another: the simulated house would stand still for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`run_until_complete` runs a simulation; `time` begins at `BEGIN_S`.

    What is due at the same time is done in the order in which it was asked for. It is asyncio's own loop without
    sockets, threads and waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ready: deque[asyncio.Handle]  # made by the base class, as is:
        self._stopping: bool
        self._now = BEGIN_S
        self._asked = 0
        self._later: list[tuple[float, int, asyncio.TimerHandle | asyncio.Future[None]]] = []

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def call_soon(  # type: ignore[override] # mypy would have it generic
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override] # mypy would have it generic
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._asked += 1
        heapq.heappush(self._later, (when, self._asked, timer))
        return timer

    async def rest(self, for_s: float) -> None:
        """As `asyncio.sleep`, for steps without number."""
        done: asyncio.Future[None] = asyncio.Future(loop=self)
        self._asked += 1
        heapq.heappush(self._later, (self._now + for_s, self._asked, done))
        await done

    def _run_once(self) -> None:
        """All that there is to do until somebody stops the loop."""
        ready = self._ready
        while not self._stopping:
            while not ready:
                self._let_time_pass()
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _let_time_pass(self) -> None:
        """To the next thing that is due; what nobody waits for any more moves no time."""
        if not self._later:
            raise NobodyWaits
        when, _, due = heapq.heappop(self._later)
        if isinstance(due, asyncio.TimerHandle):
            if due._cancelled:
                return
            self._ready.append(due)
        elif due.done():
            return
        else:
            due.set_result(None)
        self._now = max(self._now, when)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no other threads to wake the loop for."""


class LoopClock:
    """A `Clock` by the running loop's time."""

    def now(self) -> datetime:
        return moment(asyncio.get_running_loop().time())

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def moment(at_s: float) -> datetime:
    """A time of the loop as an instant, cut to milliseconds as the broker's."""
    return START + timedelta(milliseconds=int((at_s - BEGIN_S) * 1000))


def run(life: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a time of its own; whatever it has left behind is cancelled."""
    loop = VirtualLoop()
    loop.set_exception_handler(_told_by)
    try:
        return loop.run_until_complete(life)
    finally:
        while left := sorted(asyncio.all_tasks(loop), key=_age):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()


def _age(task: "asyncio.Task[Any]") -> tuple[int, str]:
    """The older first, not by where it lies in memory: tasks are named by a number that counts up."""
    return len(task.get_name()), task.get_name()


def _told_by(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The dead leave futures behind that nobody asks any more; anything else is told."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)
