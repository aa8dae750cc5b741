"""A TCP proxy between a role and its database: cuts a COMMIT before or after the server has it, or holds it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import NamedTuple

from sqlalchemy.engine import make_url

_COMMIT = b"COMMIT;"
_ROLLBACK = b"ROLLBACK;"
_CHUNK = 64 * 1024


class _Fate(Enum):
    """What becomes of a COMMIT: nothing, carried out without an answer, never heard of, late."""

    NONE = auto()
    CUT = auto()
    LOST = auto()
    HELD = auto()


class _Wish(NamedTuple):
    """What the next COMMIT meets, of a transaction that has said `after`."""

    fate: _Fate = _Fate.NONE
    after: bytes = b""
    hold_s: float = 0.0


class CommitCutter:
    """`cut_next` arms it: the connection whose COMMIT comes next is lost with the answer underway; `lose_next`: before
    the server has heard it; `hold_next`: it reaches the server later. With `after` it must be of a transaction that has
    said that. `cuts`, `losses`, `holds` count. After `mute` nothing gets through any more, either way, and nobody is
    told: a server that is gone without a word.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server_address = (host, port)
        self._wish = _Wish()
        self._links: set[asyncio.Task[None]] = set()
        self._hears = asyncio.Event()
        self._hears.set()
        self.cuts = 0
        self.losses = 0
        self.holds = 0

    def cut_next(self, after: bytes = b"") -> None:
        self._wish = _Wish(_Fate.CUT, after)

    def lose_next(self, after: bytes = b"") -> None:
        self._wish = _Wish(_Fate.LOST, after)

    def hold_next(self, hold_s: float, after: bytes = b"") -> None:
        self._wish = _Wish(_Fate.HELD, after, hold_s)

    def mute(self) -> None:
        self._hears.clear()

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
        said = b""
        try:
            while data := await reader.read(_CHUNK):
                said += data
                wish = self._granted(said) if _COMMIT in data else _Wish()
                if _COMMIT in data or _ROLLBACK in data:
                    said = b""
                match wish.fate:
                    case _Fate.NONE:
                        pass
                    case _Fate.LOST:
                        self.losses += 1
                        return
                    case _Fate.HELD:
                        self.holds += 1
                        await asyncio.sleep(wish.hold_s)
                    case _Fate.CUT:
                        back.cancel()
                        await asyncio.wait([back])
                await self._hears.wait()
                server_writer.write(data)
                await server_writer.drain()
                if wish.fate is _Fate.CUT:
                    self.cuts += b"COMMIT" in await server_reader.read(_CHUNK)
                    return
        finally:
            back.cancel()
            server_writer.close()

    def _granted(self, said: bytes) -> _Wish:
        """The wish that a COMMIT after these words fulfils; it is fulfilled once."""
        wish = self._wish
        if wish.after not in said:
            return _Wish()
        self._wish = _Wish()
        return wish

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side is gone; then the other one is told, however it went."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._hears.wait()
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
