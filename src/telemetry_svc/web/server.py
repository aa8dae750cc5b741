"""The HTTP port and the server on it: taken before anything runs, so that its address can be told or refused first."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_S = 30


class PortTaken(RuntimeError):
    """The HTTP address cannot be had. The text names the setting."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0: any free one. Raises `PortTaken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        message = f"cannot listen on {host}:{port} ({error.strerror}): set TELEMETRY_HTTP_HOST or TELEMETRY_HTTP_PORT"
        raise PortTaken(message) from error


class _Server(uvicorn.Server):
    """Leaves signals to the command line: there is one way to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_of(app: FastAPI, *, end_within_s: int) -> uvicorn.Server:
    """A server that logs nothing by itself and, told to end, waits so long for requests at work."""
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=end_within_s,
        )
    )


async def serve(
    app: FastAPI, at: socket.socket, stop: asyncio.Event, stopping: asyncio.Event, *, end_within_s: int
) -> None:
    """Serves until `stop` is set; then sets `stopping`, for answers without an end. Cancelled it ends in the same way:
    the socket must not be closed under a server that listens on it.
    """
    server = server_of(app, end_within_s=end_within_s)
    serving = asyncio.create_task(server.serve(sockets=[at]))
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, told], return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        stopping.set()
        server.should_exit = True
        await serving
