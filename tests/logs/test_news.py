"""Of what asyncio reports only a driver's forgotten goodbye is no news."""

import logging

import pytest

from telemetry_svc.logs import is_news

FORGOTTEN = "Task exception was never retrieved\nfuture: <Task finished name='Task-172' coro=<close()>>"


@pytest.mark.parametrize(
    ("said", "met", "expected"),
    [
        (FORGOTTEN, TimeoutError(), False),
        ("Future exception was never retrieved", ConnectionError("unexpected connection_lost() call"), False),
        ("Future exception was never retrieved", ConnectionResetError(), False),
        (FORGOTTEN, ValueError("a defect of ours"), True),
        ("Exception in callback Loop.read()", ConnectionResetError(), True),
        ("Executing <Task> took 0.250 seconds", None, True),
    ],
)
def test_what_is_told(said: str, met: Exception | None, expected: bool) -> None:
    exc_info = None if met is None else (type(met), met, None)
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, said, None, exc_info)
    assert is_news(record) is expected
