"""Imports the command line once, then forks a process for each command it is told to run.

Importing takes 2 s of CPU, which two cores cannot spend on every one of a hundred refusals. A line of JSON on stdin is
a command (`argv`, `env`, `cwd`, and files for its `out` and `err`); the line on stdout is its exit code.
"""

import json
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from telemetry_svc.cli import main

LONGEST_S = 100


def serve() -> None:
    """Runs commands one after another until stdin ends."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        _, status = os.waitpid(pid, 0)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(command: dict[str, Any]) -> NoReturn:
    """The command itself, from here on: its own session, folder, environment and files, and nothing on stdin."""
    os.setsid()
    signal.alarm(LONGEST_S)
    os.chdir(command["cwd"])
    for number, name in ((0, os.devnull), (1, command["out"]), (2, command["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(command["env"])
    sys.argv = ["telemetry-svc", *command["argv"]]
    os._exit(_exit_code())


def _exit_code() -> int:
    code: Any = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    serve()
