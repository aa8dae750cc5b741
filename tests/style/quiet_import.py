"""Imports modules and prints what work their own top level did; a program: the package's folder, then the modules.

An audit hook sees every file, socket and process; threads are counted. What it sees is told where the nearest code that
is neither the standard library nor the import system itself belongs to the package.
"""

import importlib
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

WORK = ("open", "socket.__new__", "socket.connect", "subprocess.Popen", "os.system")
PACKAGE = Path(sys.argv[1]).resolve()
STANDARD = Path(sysconfig.get_path("stdlib")).resolve()


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event not in WORK:
        return
    frame = _responsible(sys._getframe(1))
    if frame is not None:
        where = Path(frame.f_code.co_filename).resolve().relative_to(PACKAGE.parent)
        print(f"{where}:{frame.f_lineno}: {event} {arguments[:1]}")


def _responsible(frame: FrameType | None) -> FrameType | None:
    """The frame of ours that did it, if it is one of ours."""
    for one in _outward(frame):
        name = one.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return None
        path = Path(name)
        if path.is_relative_to(PACKAGE):
            return one
        if not path.is_relative_to(STANDARD) or "site-packages" in path.parts:
            return None
    return None


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


if __name__ == "__main__":
    sys.addaudithook(watch)
    for module in sys.argv[2:]:
        threads = threading.active_count()
        importlib.import_module(module)
        if threading.active_count() > threads:
            print(f"{module}: a thread")
