"""Names whatever blocks the event loop (design.md, decision 15; fault 13).

While the loop is blocked nothing in it can tell, `/livez` neither; so a thread watches its beat and writes down, once
for each blockage, where the loop's own thread stands. What waited meanwhile is answered 503 for a short time after.
And `cut_off` names, and ends, who does not end when told to.
"""

import asyncio
import sys
import threading
import time
import traceback

import structlog

from telemetry_svc.clock import pause

log = structlog.get_logger(__name__)

BEAT_S = 0.5
BLOCKED_S = 5.0
AFTERMATH_S = 3.0
FRAMES = 8


class Watchdog:
    """Watches the loop that `run` is called in. Times are in seconds."""

    def __init__(self, *, blocked_s: float = BLOCKED_S, beat_s: float = BEAT_S) -> None:
        self._blocked_s = blocked_s
        self._beat_s = beat_s
        self._beat_at = time.monotonic()
        self._blocked_at: float | None = None
        self._worst_s = 0.0
        self._over = threading.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Beats until `stop` is set, with a thread beside it that listens."""
        self._beat_at = time.monotonic()
        thread = threading.Thread(
            target=self._listen, args=(threading.get_ident(),), name="telemetry-watchdog", daemon=True
        )
        thread.start()
        try:
            while not stop.is_set():
                self._beat()
                await pause(stop, self._beat_s)
        finally:
            self._over.set()

    async def check(self) -> str | None:
        """Why the loop is not well: blocked now, as whoever asks was made to wait, or just now."""
        now = time.monotonic()
        late_s = now - self._beat_at
        if late_s > self._blocked_s:
            return f"the event loop was blocked for {late_s:.0f} s"
        if self._blocked_at is not None and now - self._blocked_at < AFTERMATH_S:
            return f"the event loop was blocked for {self._worst_s:.0f} s"
        return None

    def _beat(self) -> None:
        now = time.monotonic()
        late_s = now - self._beat_at
        if late_s > self._blocked_s:
            self._blocked_at, self._worst_s = now, late_s
            log.warning("the event loop goes on", blocked_s=round(late_s, 1))
        self._beat_at = now

    def _listen(self, loop_thread: int) -> None:
        named_at: float | None = None
        while not self._over.wait(self._beat_s):
            beat_at = self._beat_at
            if time.monotonic() - beat_at <= self._blocked_s or named_at == beat_at:
                continue
            named_at = beat_at
            where = _where(loop_thread)
            log.error("the event loop is blocked", blocked_s=self._blocked_s, culprit=where[-1], frames=where)


async def cut_off(loops: list[asyncio.Task[None]], stop: asyncio.Event, after_s: float) -> None:
    """Who then still waits (for a lock, or a server that says nothing) waits no longer: what was not committed is done
    again by whoever comes next."""
    await stop.wait()
    _, late = await asyncio.wait(loops, timeout=after_s)
    for loop in late:
        log.warning("cut off what did not end in time", loop=getattr(loop.get_coro(), "__qualname__", ""))
        loop.cancel()


def _where(thread: int) -> list[str]:
    """The innermost frames of a thread, outermost first, as `file:line function`."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ["?"]
    frames = traceback.extract_stack(frame)[-FRAMES:]
    return [f"{one.filename}:{one.lineno} {one.name}" for one in frames]
