"""Loopback ports that are free now and likely still free after a restart.

A port from the kernel's ephemeral range would be taken by any outgoing connection while the server is down; worse, a
client that keeps trying to reach a dead server on such a port can connect to itself. So ports come from below that
range, at random (two starts in parallel seldom meet, and whoever loses the race picks again), and are remembered.
"""

import json
import secrets
import socket
from pathlib import Path

from telemetry_svc.embedded.errors import EmbeddedUnavailable
from telemetry_svc.embedded.files import write_atomically

HOST = "127.0.0.1"
_LOWEST = 15_000
_HIGHEST = 32_000
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(but: frozenset[int] = frozenset()) -> int:
    """A random port that is free now and not one of `but`."""
    for _ in range(_TRIES):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if port not in but and is_free(port):
            return port
    raise EmbeddedUnavailable(f"no free port on {HOST} between {_LOWEST} and {_HIGHEST}: close some servers")


def remembered_ports(memory: Path, names: tuple[str, ...]) -> dict[str, int]:
    """A free port per name: the one in the file `memory` where it is still free, else a new one, remembered."""
    before = _read(memory)
    ports: dict[str, int] = {}
    for name in names:
        port = before.get(name)
        taken = frozenset(ports.values())
        ports[name] = port if port is not None and port not in taken and is_free(port) else free_port(taken)
    if ports != before:
        write_atomically(memory, json.dumps(ports))
    return ports


def _read(memory: Path) -> dict[str, int]:
    try:
        content = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(name): port for name, port in content.items() if isinstance(port, int) and 0 < port < 65536}
