"""A server that is gone without a word: who waits for its answer is told so in the end, and goes on elsewhere."""

from typing import ClassVar

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InvalidatePoolError

from telemetry_svc.store import engine as engines
from telemetry_svc.store.refusals import DATABASE_ERRORS
from tests.stream.proxy import commit_cutter

LONGER_THAN_ANYBODY_WAITS_S = 3_600.0


async def test_an_answer_that_never_comes_is_waited_for_no_longer_than_a_transaction_may_run(
    database_url: str,
) -> None:
    """Without a limit of our own only the server ends the wait; one whose machine has vanished never does."""
    async with commit_cutter(database_url) as (cutter, url):
        engine = engines.create_engine(url, application_name="tests-silence", command_timeout_s=0.5)
        cutter.hold_next(LONGER_THAN_ANYBODY_WAITS_S)
        with pytest.raises(TimeoutError) as told:
            async with engine.begin() as connection:
                await connection.execute(text("SELECT 1"))
        assert isinstance(told.value, DATABASE_ERRORS)
        assert cutter.holds == 1
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 2")) == 2
        await engine.dispose()


async def test_the_limit_is_longer_than_the_servers_own() -> None:
    """Else a long transaction would be cut by its client, with its outcome in doubt."""
    settings = engines._session_settings("tests")
    assert settings["transaction_timeout"] == "60s"
    assert engines.COMMAND_TIMEOUT_S > 60


@pytest.mark.parametrize(
    "met",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda met: type(met).__name__,
)
def test_a_connection_that_does_not_answer_is_replaced_whatever_it_says(met: Exception) -> None:
    """Found by chaos: a connection given back in the midst of an operation ended `notify` with exit code 1."""

    class Line:
        def run_async(self, _: object) -> None:
            raise met

    class Record:
        info: ClassVar[dict[str, bool]] = {engines.USED: True}

    with pytest.raises(InvalidatePoolError):
        engines._look_whether_it_answers(Line(), Record(), None)
    assert isinstance(met, DATABASE_ERRORS)
