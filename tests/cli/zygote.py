"""Imports every command once, then forks a process for each command it is told to start.

Importing takes 2 s of CPU, which two cores cannot spend on every one of a hundred refusals. A line of JSON on stdin is
answered by one on stdout: `{"start": {argv, env, cwd, out, err}}` by the process id, `{"poll": PID}` by its exit code
or null. A command ends as the interpreter ends any; those that are left at the end of stdin are told to end.
"""

import gc
import json
import os
import signal
import sys
from typing import Any

from typer.main import get_command

import telemetry_svc.store.editions  # noqa: F401 - as `policy diff` does
from telemetry_svc.cli import build, errors, main


def serve() -> dict[str, Any] | None:
    """Answers until stdin ends; returns in a forked process, too, with the command that it is to be."""
    running: set[int] = set()
    _import_what_comes_late()
    gc.freeze()  # what is imported is never looked at again, in no process: half of a short command's time
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "poll" in request:
            answer = _exit_code(request["poll"], running)
        elif (answer := os.fork()) == 0:
            return dict(request["start"])
        else:
            running.add(answer)
        os.write(1, json.dumps(answer).encode() + b"\n")
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    return None


def _import_what_comes_late() -> None:
    """Else each of the commands would, and each refusal."""
    group: Any = get_command(build())
    assert list(group.commands.values())
    assert errors._line_of(Exception()) is None


def _exit_code(pid: int, running: set[int]) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    running.discard(pid)
    return os.waitstatus_to_exitcode(status)


def become(command: dict[str, Any]) -> None:
    """From here on this process has the command's session, folder, environment and files, and nothing on stdin."""
    os.setsid()
    os.chdir(command["cwd"])
    for number, name in ((0, os.devnull), (1, command["out"]), (2, command["err"])):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(command["env"])
    sys.argv = ["telemetry-svc", *command["argv"]]


if __name__ == "__main__" and (command := serve()) is not None:
    become(command)
    main()
