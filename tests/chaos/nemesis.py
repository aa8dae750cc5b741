"""Carries out a plan of faults, one after the other, and counts what it did.

Whoever was killed comes back by himself after a while, as a supervisor would see to it. What a plan could not bring
about (a kill inside a transaction that was never met) is tried again at the end, so that few runs prove nothing.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from telemetry_svc.embedded.server import EmbeddedServer
from tests.chaos.arena import Arena
from tests.chaos.crew import Member
from tests.chaos.plan import STOPPED_S, Fault, Kind, Need
from tests.chaos.sessions import Session, Wanted, is_between, is_storing, is_writing
from tests.chaos.traffic import Pace

log = structlog.get_logger(__name__)

CATCH_WITHIN_S = 15.0
STIR_PINGS = 60
STIR_EVERY_S = 0.1
SETTLED_WITHIN_S = 15.0
WOKEN_S = 1.0
"""Long enough for its counters to be read."""
MORE_TRIES = 6
COPIED = b"COPY "
"""Said by the transactions of batches that hold pings."""


@dataclass
class Tally:
    """What was done. `stops`: processes that slept; `cuts`: by the proxy, after the server had committed."""

    kills: int = 0
    kills_in_transaction: int = 0
    sessions_ended: int = 0
    outages: int = 0
    stops: int = 0
    missed: int = 0


class Nemesis:
    """`pace` is that of the traffic: it stirs before a fault that needs something to strike into."""

    def __init__(self, arena: Arena, pace: Pace, need: Need) -> None:
        self._arena = arena
        self._crew = arena.crew
        self._cutter = arena.cutter
        self._pace = pace
        self._need = need
        self._returning: set[asyncio.Task[None]] = set()
        self._extra = 0
        self.tally = Tally()
        self._how: dict[Kind, Callable[[Fault], Awaitable[None]]] = {
            Kind.KILL: self._kill,
            Kind.KILL_IN_TRANSACTION: self._kill_in_transaction,
            Kind.STOP: self._stop,
            Kind.SESSIONS: self._end_sessions,
            Kind.SESSIONS_IN_TRANSACTION: self._end_session,
            Kind.DATABASE: self._database,
            Kind.BROKER: self._broker,
            Kind.LEAVE: self._leave,
            Kind.JOIN: self._join,
            Kind.CUT_COMMIT: self._cut,
            Kind.LOSE_COMMIT: self._lose,
            Kind.HOLD_COMMIT: self._hold,
        }

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            await self.strike(fault)
        for _ in range(MORE_TRIES):
            missing = self._missing()
            if missing is None:
                break
            await self.strike(missing)
        await self.everybody_back()

    async def strike(self, fault: Fault) -> None:
        log.info("fault", kind=fault.kind, role=fault.role, lasts_s=round(fault.lasts_s, 1))
        await self._how[fault.kind](fault)
        await asyncio.sleep(fault.calm_s)

    async def everybody_back(self) -> None:
        while self._returning:
            await asyncio.wait(self._returning)

    def _missing(self) -> Fault | None:
        """What this run still needs to count."""
        if self._crew.sum("fenced_batches") < self._need.fenced:
            return Fault(Kind.STOP, "ingest", STOPPED_S, 1.0)
        if self._cutter.cuts < self._need.in_doubt:
            return Fault(Kind.CUT_COMMIT, "ingest", 0.0, 1.0)
        if self.tally.kills_in_transaction < self._need.kills_in_transaction:
            return Fault(Kind.KILL_IN_TRANSACTION, "ingest", 1.0, 1.0)
        if self._crew.sum("redelivered_records") < self._need.redelivered:
            return Fault(Kind.SESSIONS_IN_TRANSACTION, "ingest", 0.0, 1.0)
        return None

    async def _kill(self, fault: Fault) -> None:
        members = self._crew.up(fault.role)
        if members:
            await self._kill_one(members[self.tally.kills % len(members)], fault)

    async def _kill_in_transaction(self, fault: Fault) -> None:
        if (victim := await self._caught(fault.role, is_writing)) is not None:
            self.tally.kills_in_transaction += 1
            await self._kill_one(victim, fault)

    async def _kill_one(self, member: Member, fault: Fault) -> None:
        self.tally.kills += 1
        await self._crew.kill(member)
        self._later(fault.lasts_s, lambda: self._crew.start(member.name))

    async def _stop(self, fault: Fault) -> None:
        """Both sleep for longer than any time-out; somebody else takes their partitions over."""
        await self._arena.settled(SETTLED_WITHIN_S)
        inside = await self._caught(fault.role, is_storing)
        self._pace.burst(5 * STIR_PINGS)
        await self._arena.sessions.meet(lambda: self._crew.up(fault.role), is_storing, CATCH_WITHIN_S)
        between = await self._caught(fault.role, is_between)
        sleepers = [one for one in (inside, between) if one is not None]
        self.tally.stops += len(sleepers)
        await asyncio.sleep(fault.lasts_s)
        for sleeper in sleepers:
            self._crew.go_on(sleeper)
        await asyncio.sleep(WOKEN_S)

    async def _end_session(self, fault: Fault) -> None:
        found = await self._catch(fault.role, is_storing)
        if found is not None:
            self.tally.sessions_ended += await self._arena.sessions.end(found[1])
            self._crew.go_on(found[0])

    async def _end_sessions(self, fault: Fault) -> None:
        self.tally.sessions_ended += await self._arena.sessions.end_all()

    async def _database(self, fault: Fault) -> None:
        await self._outage(self._arena.servers.parts.postgres, fault)

    async def _broker(self, fault: Fault) -> None:
        await self._outage(self._arena.servers.parts.kafka, fault)

    async def _outage(self, server: EmbeddedServer, fault: Fault) -> None:
        self.tally.outages += 1
        await (server.stop() if fault.graceful else server.kill())
        await asyncio.sleep(fault.lasts_s)
        await server.start()

    async def _leave(self, fault: Fault) -> None:
        if members := self._crew.up(fault.role):
            code = await self._crew.leave(members[0])
            assert code == 0, f"{members[0].name} left with exit code {code}"
            self._later(fault.lasts_s, lambda: self._crew.start(members[0].name))

    async def _join(self, fault: Fault) -> None:
        self._extra += 1
        guest = self._crew.start(f"{fault.role}-guest-{self._extra}")
        self._later(fault.lasts_s, lambda: self._crew.dismiss(guest))

    async def _cut(self, fault: Fault) -> None:
        self._cutter.cut_next(after=COPIED)
        await self._struck(lambda: self._cutter.cuts)

    async def _lose(self, fault: Fault) -> None:
        self._cutter.lose_next(after=COPIED)
        await self._struck(lambda: self._cutter.losses)

    async def _hold(self, fault: Fault) -> None:
        self._cutter.hold_next(fault.lasts_s, after=COPIED)
        await self._struck(lambda: self._cutter.holds)
        self._pace.burst(STIR_PINGS)
        await asyncio.sleep(fault.lasts_s)

    async def _struck(self, count: Callable[[], int]) -> None:
        """Stirs until the proxy has met what it waits for."""
        before = count()
        for _ in range(round(CATCH_WITHIN_S / STIR_EVERY_S)):
            if count() > before:
                return
            self._pace.burst(STIR_PINGS // 10)
            await asyncio.sleep(STIR_EVERY_S)
        self.tally.missed += 1

    async def _caught(self, role: str, wanted: Wanted) -> Member | None:
        found = await self._catch(role, wanted)
        return None if found is None else found[0]

    async def _catch(self, role: str, wanted: Wanted) -> tuple[Member, Session] | None:
        self._pace.burst(STIR_PINGS)
        found = await self._arena.sessions.catch(lambda: self._crew.up(role), wanted, CATCH_WITHIN_S)
        self.tally.missed += found is None
        return found

    def _later(self, after_s: float, what: Callable[[], object]) -> None:
        async def wait() -> None:
            await asyncio.sleep(after_s)
            done = what()
            if inspect.isawaitable(done):
                await done

        task = asyncio.create_task(wait())
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)
