"""`telemetry-svc` as a stranger meets it: a program with arguments, settings, two streams, signals and an exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

ENTRY_POINT = Path(sys.executable).with_name("telemetry-svc")
POLL_S = 0.05


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line that says why it was refused (exit code 2); nothing else was printed."""
        assert self.code == 2, self
        assert self.out == "", self
        [line] = self.err.splitlines()
        assert line.startswith("telemetry-svc: "), self
        return line.removeprefix("telemetry-svc: ")


class Cli:
    """Runs short commands in `home`, each a process forked from one that has imported everything."""

    def __init__(self, zygote: "subprocess.Popen[bytes]", home: Path) -> None:
        self._zygote = zygote
        self.home = home

    def __call__(self, *argv: object, cwd: Path | None = None, **settings: Any) -> Finished:
        """`telemetry-svc ARGV` with these `TELEMETRY_` settings; its data directory is empty unless they say one."""
        out, err = (Path(tempfile.mkstemp(dir=self.home, suffix=f".{name}")[1]) for name in ("out", "err"))
        command = {
            "argv": [str(argument) for argument in argv],
            "env": environment(self.home, settings),
            "cwd": str(cwd or self.home),
            "out": str(out),
            "err": str(err),
        }
        _of(self._zygote.stdin).write(json.dumps(command).encode() + b"\n")
        _of(self._zygote.stdin).flush()
        code = int(_of(self._zygote.stdout).readline())
        return Finished(code, out.read_text(), err.read_text())


@contextmanager
def command_line(home: Path) -> Iterator[Cli]:
    """A `Cli` until the end of the block."""
    zygote = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with zygote:
        yield Cli(zygote, home)
        _of(zygote.stdin).close()


class Program:
    """A long-running command, started by its entry point like a person does, with what it says in files."""

    def __init__(self, home: Path, *argv: str, **settings: Any) -> None:
        self._out, self._err = (Path(tempfile.mkstemp(dir=home, suffix=f".{name}")[1]) for name in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [str(ENTRY_POINT), *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(home, settings),
                cwd=home,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def says(self, pattern: str, within_s: float = 90) -> "re.Match[str]":
        """Waits until stdout matches."""
        deadline = time.monotonic() + within_s
        while (match := re.search(pattern, self.out, re.MULTILINE)) is None:
            ended = self._process.poll() is not None
            if time.monotonic() > deadline or (ended and re.search(pattern, self.out, re.MULTILINE) is None):
                raise AssertionError(f"{pattern} was not said; exit code {self._process.poll()}\n{self.out}{self.err}")
            time.sleep(POLL_S)
        return match

    def descendants(self) -> tuple[int, ...]:
        """Everything it has started that runs now."""
        return tuple(process.pid for process in psutil.Process(self.pid).children(recursive=True))

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ends(self, within_s: float) -> int:
        """Its exit code."""
        return self._process.wait(within_s)

    def close(self) -> None:
        """Not left behind by a test that failed."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextmanager
def program(home: Path, *argv: str, **settings: Any) -> Iterator[Program]:
    """A program that does not outlive the block."""
    running = Program(home, *argv, **settings)
    try:
        yield running
    finally:
        running.close()


def environment(home: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """Ours without any setting, plus these; the data directory is a folder of `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    given = {"data_dir": home / "data", "http_port": 0, **settings}
    return inherited | {f"TELEMETRY_{name.upper()}": str(value) for name, value in given.items()}


def _of(stream: "IO[bytes] | None") -> IO[bytes]:
    assert stream is not None
    return stream
