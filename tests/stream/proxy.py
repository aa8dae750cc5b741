"""A TCP proxy between a role and its database that can cut one COMMIT after the server has carried it out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.engine import make_url

_COMMIT = b"COMMIT;"
_CHUNK = 64 * 1024


class CommitCutter:
    """`cut_next` arms it; the connection whose COMMIT comes next is lost with the answer underway. `cuts` counts."""

    def __init__(self, host: str, port: int) -> None:
        self._server_address = (host, port)
        self._armed = False
        self._links: set[asyncio.Task[None]] = set()
        self.cuts = 0

    def cut_next(self) -> None:
        self._armed = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await self._link(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(task)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._server_address)
        back = asyncio.create_task(self._copy(server_reader, writer))
        try:
            while data := await reader.read(_CHUNK):
                cut = self._armed and _COMMIT in data
                if cut:
                    self._armed = False
                    back.cancel()
                    await asyncio.wait([back])
                server_writer.write(data)
                await server_writer.drain()
                if cut:
                    self.cuts += b"COMMIT" in await server_reader.read(_CHUNK)
                    return
        finally:
            back.cancel()
            server_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
            writer.close()

    async def close(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links)


@contextlib.asynccontextmanager
async def commit_cutter(database_url: str) -> AsyncIterator[tuple[CommitCutter, str]]:
    """The proxy and the database's address by way of it."""
    url = make_url(database_url)
    cutter = CommitCutter(url.host or "127.0.0.1", url.port or 5432)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield cutter, url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    finally:
        server.close()
        await cutter.close()
