"""Forks the roles of a run, as tests/cli/zygote.py does; with the name of a broken build each of them is broken first.

A program: the name of a module of tests/chaos/broken, or nothing. The patch is laid on in the forked process, so what
runs is the ordinary command line in every other respect. Where this process ends, whatever ended it, so do they all.
"""

import ctypes
import importlib
import os
import signal
import sys

from telemetry_svc.cli import main
from tests.cli.zygote import become, serve

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """SIGKILL at the end of the parent (Linux), also where that was killed and could say goodbye to nobody."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            sys.exit("the parent is gone")


if __name__ == "__main__":
    builds, own_pid = sys.argv[1:], os.getpid()
    if (command := serve()) is not None:
        die_with(own_pid)
        become(command)
        for build in builds:
            importlib.import_module(f"tests.chaos.broken.{build}").apply()
        main()
