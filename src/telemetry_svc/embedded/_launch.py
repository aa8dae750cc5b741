"""Becomes the program it is given, after binding its life to ours.

Run as a script (`python -I -S _launch.py DEATH_SIGNAL PARENT_PID UID GID PROGRAM ARG…`), between the fork and the
program: code that would not be safe in `preexec_fn` of a process with threads is safe here. It gives up root first
(a change of user clears the death signal), then asks the kernel for the signal, then looks whether the parent died in
between. The program keeps the process id, so the caller's `Popen` is the program's. `-` for UID and GID: stay.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def _become(uid: str, gid: str) -> None:
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))


def _die_with(parent_pid: int, death_signal: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        sys.exit("the parent is gone")


def main(arguments: list[str]) -> None:
    """Never returns: the program takes this process over, or the process exits."""
    death_signal, parent_pid, uid, gid, *program = arguments
    try:
        _become(uid, gid)
        _die_with(int(parent_pid), int(death_signal))
        os.execv(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
