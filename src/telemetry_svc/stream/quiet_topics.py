"""Topics that are missing, or do not answer: the relay leaves them alone for a while, so that they hold up no other.

Each is told by its name, in the log when it begins, once a minute and when it is over, and by a metric while it lasts.
"""

import asyncio

import structlog
from prometheus_client import Gauge

from telemetry_svc.logs import Trouble

log = structlog.get_logger(__name__)

LEFT_ALONE_S = 5.0
"""So much later at most goes out what waits for a topic that is there again."""


class QuietTopics:
    """What one relay knows of them. Times are the event loop's."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._until_s: dict[str, float] = {}
        self._troubles: dict[str, Trouble] = {}

    def left_alone(self) -> list[str]:
        """Those that are not asked now."""
        now_s = asyncio.get_running_loop().time()
        return sorted(topic for topic, until_s in self._until_s.items() if until_s > now_s)

    def keeps_quiet(self, topic: str, error: BaseException) -> None:
        """It was asked for, or sent to, in vain."""
        self._until_s[topic] = asyncio.get_running_loop().time() + LEFT_ALONE_S
        self._gauge.labels(topic).set(1)
        trouble = self._troubles.setdefault(topic, Trouble(log))
        trouble.lasts(
            "outbox rows wait: their topic is missing or does not answer", topic=topic, reason=type(error).__name__
        )

    def answers(self, topic: str) -> None:
        """It took something."""
        if self._until_s.pop(topic, None) is not None:
            self._gauge.labels(topic).set(0)
            self._troubles.pop(topic).over(topic=topic)
