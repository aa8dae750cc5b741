"""Locks, ports, the data directory: what two starts at once may and may not do."""

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest

from telemetry_svc.embedded.directory import DataDirectory, find_running
from telemetry_svc.embedded.errors import AlreadyRunning, EmbeddedUnavailable
from telemetry_svc.embedded.files import FileLock, held, in_thread, write_atomically
from telemetry_svc.embedded.ports import HOST, free_port, is_free, remembered_ports


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


async def test_who_waits_for_a_lock_is_told_so_once(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "lock")
    assert first.try_acquire()
    waits: list[str] = []

    def let_go() -> None:
        waits.append("waiting")
        first.release()

    async with held(tmp_path / "lock", let_go):
        assert not first.try_acquire()
    assert waits == ["waiting"]


async def test_who_is_cancelled_waits_until_the_thread_has_let_go_of_its_files(tmp_path: Path) -> None:
    """Else a start that failed goes on writing into a folder that its user is removing already."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        (tmp_path / "file").write_text("whole")

    caller = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (tmp_path / "file").read_text() == "whole"


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_ports_are_remembered_while_they_are_free(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = remembered_ports(memory, ("broker", "controller"))
    assert len(set(first.values())) == 2
    assert remembered_ports(memory, ("broker", "controller")) == first
    with socket.create_server((HOST, first["broker"])):
        assert not is_free(first["broker"])
        moved = remembered_ports(memory, ("broker", "controller"))
    assert moved["broker"] != first["broker"]
    assert moved["controller"] == first["controller"]


@pytest.mark.parametrize("content", ["", "[1]", '{"broker": "x"}', '{"broker": 70000}', '{"broker": 1}x'])
def test_a_broken_memory_of_ports_is_made_anew(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "ports.json"
    memory.write_text(content)
    assert is_free(remembered_ports(memory, ("broker",))["broker"])


def test_a_free_port_is_below_those_of_outgoing_connections() -> None:
    assert free_port() < 32_768


async def test_a_directory_has_one_holder_and_the_second_is_told_who(home: Path) -> None:
    first = DataDirectory(home / "data")
    await first.take()
    first.announce("http://127.0.0.1:8000")
    first.publish("postgresql://u:p@127.0.0.1:1/d", "127.0.0.1:2")
    with pytest.raises(AlreadyRunning) as refused:
        await DataDirectory(home / "data").take()
    assert refused.value.pid == os.getpid()
    assert refused.value.address == "http://127.0.0.1:8000"
    assert str(os.getpid()) in str(refused.value)
    running = find_running(home / "data")
    assert running is not None
    assert (running.database_url, running.kafka_bootstrap) == ("postgresql://u:p@127.0.0.1:1/d", "127.0.0.1:2")
    first.release()
    assert find_running(home / "data") is None


async def test_what_a_killed_holder_left_names_nobody(home: Path) -> None:
    directory = DataDirectory(home)
    await directory.take()
    left = (home / "running.json").read_text()
    directory.release()
    (home / "running.json").write_text(left)
    assert find_running(home) is None
    assert find_running(home / "never") is None


async def test_a_directory_that_cannot_be_made_names_the_setting(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(EmbeddedUnavailable, match="set TELEMETRY_DATA_DIR"):
        await DataDirectory(home / "file" / "data").take()
