"""After an error the member goes on with what it has read ahead, under the epoch it has. By itself no broken build.

The consumer forgets everything after any error and the fence compares the offset: two locks on one door. This takes
the first away; the second must hold (a batch behind one that was rolled back is fenced).
"""

import asyncio

from telemetry_svc.store.refusals import DATABASE_ERRORS
from telemetry_svc.stream.consumer import FencedConsumer

PAUSE_S = 0.2


def apply() -> None:
    turn = FencedConsumer._turn

    async def goes_on(self: FencedConsumer, stop: asyncio.Event) -> None:
        step = self._step

        async def undisturbed() -> None:
            try:
                await step()
            except DATABASE_ERRORS:
                await asyncio.sleep(PAUSE_S)
                await self._takeover._pin()  # a new session, the same epoch

        setattr(self, "_step", undisturbed)  # noqa: B010 - a method is not assigned to
        try:
            await turn(self, stop)
        finally:
            del self._step

    setattr(FencedConsumer, "_turn", goes_on)  # noqa: B010
