"""`telemetry-svc` as a stranger meets it: a program with arguments, settings, two streams, signals and an exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import httpx
import psutil

ENTRY_POINT = Path(sys.executable).with_name("telemetry-svc")
POLL_S = 0.05
SHORT_S = 60
GRACE_S = 25


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


class Program:
    """A running command, with what it says in files."""

    def __init__(self, pid: int, poll: Callable[[], int | None], out: Path, err: Path) -> None:
        self.pid = pid
        self._poll = poll
        self._code: int | None = None
        self._out, self._err = out, err

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def code(self) -> int | None:
        """None while it runs; negative for a signal."""
        if self._code is None:
            self._code = self._poll()
        return self._code

    def says(self, pattern: str, within_s: float = 90) -> "re.Match[str]":
        """Waits until stdout matches; fails where it ends or the time is over before."""
        deadline = time.monotonic() + within_s
        while True:
            ended = self.code is not None or time.monotonic() > deadline
            if match := re.search(pattern, self.out, re.MULTILINE):
                return match
            assert not ended, f"{pattern} was not said; exit code {self.code}\n{self.out}{self.err}"
            time.sleep(POLL_S)

    def descendants(self) -> tuple[int, ...]:
        """Everything it has started that runs now."""
        return tuple(process.pid for process in psutil.Process(self.pid).children(recursive=True))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends(self, within_s: float = GRACE_S) -> int:
        """Its exit code."""
        until(lambda: self.code is not None, within_s)
        assert self.code is not None
        return self.code

    def close(self) -> None:
        """Not left behind by a test that failed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + GRACE_S
            if self.code is None:
                self.send(number)
            while self.code is None and time.monotonic() < deadline:
                time.sleep(POLL_S)


class Cli:
    """Starts commands in `home`, each a process forked from one that has imported everything."""

    def __init__(self, zygote: "subprocess.Popen[bytes]", home: Path) -> None:
        self._zygote = zygote
        self.home = home

    def __call__(self, *argv: object, cwd: Path | None = None, **settings: Any) -> Finished:
        """`telemetry-svc ARGV` with these `TELEMETRY_` settings, to its end."""
        with self.started(*argv, home=self.home, cwd=cwd, **settings) as command:
            command.ends(SHORT_S)
            assert command.code is not None
            return Finished(command.code, command.out, command.err)

    @contextmanager
    def started(self, *argv: object, home: Path, cwd: Path | None = None, **settings: Any) -> Iterator[Program]:
        """A command that does not outlive the block; its data directory is a folder of `home`."""
        out, err = files_in(home)
        command = {
            "argv": [str(argument) for argument in argv],
            "env": environment(home, **settings),
            "cwd": str(cwd or home),
            "out": str(out),
            "err": str(err),
        }
        pid = self._ask({"start": command})
        program = Program(pid, lambda: self._ask({"poll": pid}), out, err)
        try:
            yield program
        finally:
            program.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        stdin, stdout = _of(self._zygote.stdin), _of(self._zygote.stdout)
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        return json.loads(stdout.readline())


@contextmanager
def command_line(home: Path) -> Iterator[Cli]:
    """A `Cli` until the end of the block."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as zygote:
        yield Cli(zygote, home)
        _of(zygote.stdin).close()


@contextmanager
def installed(home: Path, *argv: str, **settings: Any) -> Iterator[Program]:
    """A command started by its entry point, like a person does."""
    out, err = files_in(home)
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [str(ENTRY_POINT), *argv],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment(home, **settings),
            cwd=home,
            start_new_session=True,
        )
    program = Program(process.pid, process.poll, out, err)
    try:
        yield program
    finally:
        program.close()


def files_in(home: Path) -> tuple[Path, Path]:
    """Two empty files."""
    made = [tempfile.mkstemp(dir=home, suffix=suffix) for suffix in (".out", ".err")]
    for descriptor, _ in made:
        os.close(descriptor)
    out, err = (Path(name) for _, name in made)
    return out, err


def environment(home: Path, **settings: Any) -> dict[str, str]:
    """Ours without any setting, plus these; the data directory is a folder of `home`, the HTTP port any free one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    given = {"data_dir": home / "data", "http_port": 0, **settings}
    return inherited | {f"TELEMETRY_{name.upper()}": str(value) for name, value in given.items()}


def until(holds: Callable[[], object], within_s: float = 30) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(POLL_S)


def is_ready(client: httpx.Client) -> bool:
    """Whether the process that the client asks can do its work."""
    return client.get("/readyz").status_code == 200


def _of(stream: "IO[bytes] | None") -> IO[bytes]:
    assert stream is not None
    return stream
