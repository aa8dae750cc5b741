"""Is this process well: what `/livez` and `/readyz` ask of its parts (design.md, decision 15).

Live is not ready: a database that is away, or backpressure, makes a role unready, and only what a restart would mend
makes it not live.
"""

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.store.migrate import is_behind
from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.consumer import FencedConsumer
from telemetry_svc.stream.progress import Progress

_UNSAFE = text(
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'"
)


class Members:
    """The consumer group members of this process, each with what watches its progress. `expected`: how many it will
    have once database and broker are there."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._watched: list[tuple[FencedConsumer, Progress]] = []

    def add(self, member: FencedConsumer, progress: Progress) -> None:
        self._watched.append((member, progress))

    async def progressing(self) -> str | None:
        """Liveness: whether one of them leaves lying what it could store."""
        return next((why for _, progress in self._watched if (why := progress.stalled()) is not None), None)

    async def reading(self) -> str | None:
        """Readiness: whether all of them have partitions and read them.

        One whose broker hangs finds nothing to read and no fault: whether another client gets an answer tells.
        """
        return next(self._troubles(), None)

    def _troubles(self) -> Iterator[str]:
        if len(self._watched) < self._expected:
            yield "waits for the broker, the database and their topics"
        for member, progress in self._watched:
            if member.held is not None:
                yield f"reading pauses: {member.held}"
            elif not member.owned:
                yield member.trouble or "no partitions yet"
            elif progress.unseen is not None:
                yield progress.unseen


async def database_ready(engine: AsyncEngine) -> str | None:
    """Readiness: whether the database answers, keeps what it acknowledges, and has the schema that we need."""
    try:
        async with engine.connect() as connection:
            unsafe = [row[0] for row in await connection.execute(_UNSAFE)]
        behind = await is_behind(engine)
    except DATABASE_ERRORS:
        return "the database does not answer"
    if unsafe:
        return f"PostgreSQL would lose what it acknowledged: {', '.join(unsafe)} is off"
    return "run `telemetry-svc migrate` first" if behind else None
