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


def rfc3339_ms(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC with milliseconds, as ids and headers carry it: 2026-11-22T04:20:31.000Z.

    Anything finer than a millisecond is cut, as contract.md (Ping v1) says.
    """
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
