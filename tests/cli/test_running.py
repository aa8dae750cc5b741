"""After the signal a process is gone within its grace time, whatever its job does, with one line and no trace."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

GRACE_S = 1.0
LONGER_THAN_ANYBODY_WAITS_S = 3_600
PROGRAM = f"""
import asyncio, contextlib, time, typer
from telemetry_svc.cli.running import run_until_stopped, settings_with_logs

async def waits(stop):
    await asyncio.sleep({LONGER_THAN_ANYBODY_WAITS_S})

async def cleans_up_for_ever(stop):
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep({LONGER_THAN_ANYBODY_WAITS_S})

async def blocks(stop):
    await stop.wait()
    time.sleep({LONGER_THAN_ANYBODY_WAITS_S})

async def told(job, stop):
    print("runs", flush=True)
    await job(stop)

settings_with_logs(log_format="json")
typer.run(lambda: run_until_stopped(lambda stop: told({{job}}, stop), {GRACE_S}))
"""
CUT_OFF = "the whole process is cut off: it did not end in time"
LEFT = "left as it is: it did not end in time, even when cut off"
SAYS = {
    "waits": [CUT_OFF],
    "cleans_up_for_ever": [CUT_OFF, LEFT],
    "blocks": [LEFT],
}
"""By job: what the log says of its end."""


@pytest.fixture
def running() -> "Iterator[dict[str, subprocess.Popen[str]]]":
    """A program for each job, which runs by now."""
    with ExitStack() as stack:
        programs = {job: stack.enter_context(_program(job)) for job in SAYS}
        for program in programs.values():
            assert program.stdout is not None
            assert program.stdout.readline() == "runs\n"
        yield programs
        for program in programs.values():
            program.kill()


def test_gone_within_the_grace_time(running: "dict[str, subprocess.Popen[str]]") -> None:
    for program in running.values():
        program.send_signal(signal.SIGTERM)
    told = {job: program.communicate(timeout=30)[1] for job, program in running.items()}
    assert {job: program.returncode for job, program in running.items()} == dict.fromkeys(SAYS, 1), told
    found = {job: [line for line in (CUT_OFF, LEFT, "Traceback") if line in text] for job, text in told.items()}
    assert found == SAYS


def _program(job: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", PROGRAM.format(job=job)]
    return subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
