"""The only place that asks what time it is.

Rules get time as an input (design.md, decision 5). Everything at the edge takes a `Clock`, so that a test can stand at
23:59:59 of a holiday. `datetime.now` anywhere else fails a style test.
"""

import time
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
