"""The only place that asks what time it is, and where those who come back now and then wait.

Rules get time as an input (design.md, decision 5). Everything at the edge takes a `Clock`, so that a test can stand at
23:59:59 of a holiday. `datetime.now` anywhere else fails a style test.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time: `now` as an aware UTC datetime, `monotonic_s` in seconds that never run backwards."""

    def now(self) -> datetime: ...

    def monotonic_s(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


async def pause(stop: asyncio.Event, for_s: float) -> None:
    """Waits `for_s` seconds, but not longer than until `stop` is set.

    Not by `wait_for`, which in Python 3.11 loses a cancelling that comes just as it returns.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await stop.wait()
