"""Logging: one line per event, JSON by default, without the values of a request or a record.

structlog escapes CR, LF and ANSI in JSON; the console writer is for people. The libraries' own loggers go the same
way, save that aiokafka reports as errors what it retries by itself (a coordinator that is not up yet), and SQLAlchemy's
pool, with a trace, that it could not say goodbye to a server that is gone: only their gravest words are kept, for ours
say what a failure means. What is tried again every second is told by a `Trouble`.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

TOLD_EVERY_S = 60.0
CALM_S = 10.0
"""For the loops of consumer and relay: longer than they wait for an answer that would tell them more."""

_QUIET = {
    "aiokafka": logging.CRITICAL,
    "alembic": logging.WARNING,
    "apscheduler": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "sqlalchemy.pool": logging.CRITICAL,
    "uvicorn": logging.WARNING,
}


def is_news(record: logging.LogRecord) -> bool:
    """False for what a driver's goodbye leaves behind: a future that nobody asks, broken by a server that is gone.

    SQLAlchemy closes in a task that it forgets, asyncpg cancels over a connection that it forgets. No task of ours is
    forgotten, so nothing of ours is meant.
    """
    error = record.exc_info[1] if record.exc_info else None
    is_forgotten = "was never retrieved" in record.getMessage()
    return not (is_forgotten and isinstance(error, ConnectionError | TimeoutError))


def configure_logs(level: str, form: str) -> None:
    """Sets the process's logging; called once by the command line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True)]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    forgotten = logging.getLogger("asyncio")
    forgotten.filters = [is_news]
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, logging.getLevelName(level)))


class Trouble:
    """What fails and is tried again: a warning when it begins, one a minute while it lasts, one when it is over.

    It is over with a success that comes `calm_s` after the last failure: some loops have successes in between that
    prove nothing, a pass that finds nothing to send while the broker is away.
    """

    def __init__(self, log: Any, calm_s: float = 0.0, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._calm_s = calm_s
        self._now_s = monotonic_s
        self._what = ""
        self._tries = 0
        self._since_s = self._told_s = self._last_s = 0.0

    def lasts(self, what: str, **facts: Any) -> None:
        """It has failed (again): `what`, in a line, and the facts of this time."""
        self._last_s = self._now_s()
        self._tries += 1
        if self._tries == 1:
            self._what, self._since_s, self._told_s = what, self._last_s, self._last_s
            self._log.warning(what, **facts)
        elif self._last_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = self._last_s
            self._log.warning(what, **facts, tries=self._tries, lasts_s=round(self._last_s - self._since_s))

    def over(self, **facts: Any) -> None:
        """It has succeeded; told only where there was a trouble."""
        if self._tries and self._now_s() - self._last_s >= self._calm_s:
            lasted_s = round(self._last_s - self._since_s)
            self._log.warning(f"over: {self._what}", **facts, tries=self._tries, lasted_s=lasted_s)
            self._tries = 0
