"""Carries out a plan of faults and counts which of them struck.

One after the other, save those that strike while a server is down; whoever was killed or sent away comes back by
himself after a while, as a supervisor would see to it, and meanwhile the next fault strikes. What a plan could not
bring about (a kill inside a transaction that was never met) is tried again at the end, so that few runs prove nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace

from telemetry_svc.embedded.server import EmbeddedServer
from tests.chaos.arena import Arena, holds
from tests.chaos.crew import Member
from tests.chaos.plan import STOPPED_S, Fault, Kind, Need, planned
from tests.chaos.sessions import Session, Wanted, is_between, is_storing, is_writing
from tests.chaos.traffic import Pace

log = structlog.get_logger(__name__)

CATCH_WITHIN_S = 15.0
STIR_PINGS = 60
STIR_EVERY_S = 0.1
SETTLED_WITHIN_S = 15.0
WOKEN_WITHIN_S = 6.0
"""Long enough to be fenced, and for that to be read; who was killed before takes his count with him."""
COPIED = b"COPY "
"""Said by the transactions of batches that hold pings."""


@dataclass
class Tally:
    """What struck. `sessions_ended` and `sleepers`: how many it was that were hit; `missed`: faults that met nobody."""

    struck: Counter[Kind] = field(default_factory=Counter)
    sessions_ended: int = 0
    sleepers: int = 0
    missed: int = 0


class Nemesis:
    """`pace` is that of the traffic: it stirs before a fault that needs something to strike into.

    `wrongs`: what went wrong with those who come and go by themselves.
    """

    def __init__(self, arena: Arena, pace: Pace, need: Need, more_tries: int) -> None:
        self._arena = arena
        self._crew = arena.crew
        self._cutter = arena.cutter
        self._pace = pace
        self._need = need
        self._more_tries = more_tries
        self._returning: set[asyncio.Task[None]] = set()
        self._extra = 0
        self.tally = Tally()
        self.wrongs: list[str] = []
        database, broker = arena.servers.parts.postgres, arena.servers.parts.kafka
        self._how: dict[Kind, Callable[[Fault], Awaitable[bool]]] = {
            Kind.KILL: self._kill,
            Kind.KILL_IN_TRANSACTION: self._kill_in_transaction,
            Kind.STOP: self._stop,
            Kind.SESSIONS: self._end_sessions,
            Kind.SESSION_IN_TRANSACTION: self._end_session,
            Kind.DATABASE_KILL: lambda fault: self._outage(fault, database, database.kill),
            Kind.DATABASE_STOP: lambda fault: self._outage(fault, database, database.stop),
            Kind.BROKER_KILL: lambda fault: self._outage(fault, broker, broker.kill),
            Kind.BROKER_STOP: lambda fault: self._outage(fault, broker, broker.stop),
            Kind.LEAVE: self._leave,
            Kind.JOIN: self._join,
            Kind.CUT_COMMIT: self._cut,
            Kind.LOSE_COMMIT: self._lose,
            Kind.HOLD_COMMIT: self._hold,
        }

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            await self.strike(fault)
        await self.everybody_back()
        for _ in range(self._more_tries):
            missing = self._missing(faults)
            if missing is None:
                break
            await self.strike(missing)
            await self.everybody_back()

    async def strike(self, fault: Fault) -> None:
        log.info("fault", kind=fault.kind, role=fault.role, lasts_s=round(fault.lasts_s, 1))
        struck = await self._how[fault.kind](fault)
        self.tally.struck[fault.kind] += struck
        self.tally.missed += not struck
        await asyncio.sleep(fault.calm_s)

    async def everybody_back(self) -> None:
        while self._returning:
            await asyncio.wait(self._returning)

    def _missing(self, faults: Sequence[Fault]) -> Fault | None:
        """What this run still needs to count: a kind that struck less often than planned, or what must be met."""
        less = planned(faults) - self.tally.struck
        for one in (one for fault in faults for one in (fault, *fault.meanwhile) if one.kind in less):
            return replace(one, meanwhile=())
        if self._crew.sum("fenced_batches") < self._need.fenced:
            return Fault(Kind.STOP, "ingest", STOPPED_S, 1.0)
        if self._cutter.cuts < self._need.in_doubt:
            return Fault(Kind.CUT_COMMIT, "ingest", 0.0, 1.0)
        if self.tally.struck[Kind.KILL_IN_TRANSACTION] < self._need.kills_in_transaction:
            return Fault(Kind.KILL_IN_TRANSACTION, "ingest", 1.0, 1.0)
        if self._crew.sum("redelivered_records") < self._need.redelivered:
            return Fault(Kind.SESSION_IN_TRANSACTION, "ingest", 0.0, 1.0)
        return None

    async def _kill(self, fault: Fault) -> bool:
        members = self._crew.up(fault.role)
        return bool(members) and await self._kill_one(members[self.tally.struck[Kind.KILL] % len(members)], fault)

    async def _kill_in_transaction(self, fault: Fault) -> bool:
        victim = await self._caught(fault.role, is_writing)
        return victim is not None and await self._kill_one(victim, fault)

    async def _kill_one(self, member: Member, fault: Fault) -> bool:
        killed = await self._crew.kill(member)
        self._later(self._back(member, fault.lasts_s))
        return killed

    async def _stop(self, fault: Fault) -> bool:
        """Both sleep for longer than any time-out; somebody else takes their partitions over."""
        await self._arena.settled(SETTLED_WITHIN_S)
        inside = await self._caught(fault.role, is_storing)
        self._pace.burst(5 * STIR_PINGS)
        await self._arena.sessions.meet(lambda: self._crew.up(fault.role), is_storing, CATCH_WITHIN_S)
        between = await self._caught(fault.role, is_between)
        sleepers = [one for one in (inside, between) if one is not None]
        self.tally.sleepers += len(sleepers)
        await asyncio.sleep(fault.lasts_s)
        fenced = self._crew.sum("fenced_batches")
        for sleeper in sleepers:
            self._crew.go_on(sleeper)
        self._pace.burst(5 * STIR_PINGS)

        async def is_fenced() -> bool:
            return self._crew.sum("fenced_batches") > fenced

        await holds(is_fenced, WOKEN_WITHIN_S)
        return bool(sleepers)

    async def _end_session(self, fault: Fault) -> bool:
        found = await self._catch(fault.role, is_storing)
        if found is None:
            return False
        ended = await self._arena.sessions.end(found[1])
        self.tally.sessions_ended += ended
        self._crew.go_on(found[0])
        return ended

    async def _end_sessions(self, fault: Fault) -> bool:
        ended = await self._arena.sessions.end_all()
        self.tally.sessions_ended += ended
        return ended > 0

    async def _outage(self, fault: Fault, server: EmbeddedServer, end: Callable[[], Awaitable[None]]) -> bool:
        """While it is down the others strike: a member is killed, one is sent away, the other server goes, too."""
        await end()
        meanwhile = [asyncio.create_task(self.strike(replace(one, calm_s=0.0))) for one in fault.meanwhile]
        await asyncio.sleep(fault.lasts_s)
        await server.start()
        await asyncio.gather(*meanwhile)
        return True

    async def _leave(self, fault: Fault) -> bool:
        members = self._crew.up(fault.role)
        if members:
            self._later(self._away(members[0], fault.lasts_s))
        return bool(members)

    async def _join(self, fault: Fault) -> bool:
        self._extra += 1
        self._later(self._visit(self._crew.start(f"{fault.role}-guest-{self._extra}"), fault.lasts_s))
        return True

    async def _back(self, member: Member, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._crew.start(member.name)

    async def _away(self, member: Member, for_s: float) -> None:
        await self._crew.leave(member)
        await self._back(member, for_s)

    async def _visit(self, guest: Member, for_s: float) -> None:
        """Whoever never came to serve was no guest."""

        async def serves() -> bool:
            return guest.address is not None

        if not await holds(serves, CATCH_WITHIN_S):
            self.tally.struck[Kind.JOIN] -= 1
            self.tally.missed += 1
        await asyncio.sleep(for_s)
        await self._crew.dismiss(guest)

    async def _cut(self, fault: Fault) -> bool:
        self._cutter.cut_next(after=COPIED)
        return await self._struck(lambda: self._cutter.cuts)

    async def _lose(self, fault: Fault) -> bool:
        self._cutter.lose_next(after=COPIED)
        return await self._struck(lambda: self._cutter.losses)

    async def _hold(self, fault: Fault) -> bool:
        self._cutter.hold_next(fault.lasts_s, after=COPIED)
        struck = await self._struck(lambda: self._cutter.holds)
        self._pace.burst(STIR_PINGS)
        await asyncio.sleep(fault.lasts_s)
        return struck

    async def _struck(self, count: Callable[[], int]) -> bool:
        """Stirs until the proxy has met what it waits for."""
        before = count()
        for _ in range(round(CATCH_WITHIN_S / STIR_EVERY_S)):
            if count() > before:
                return True
            self._pace.burst(STIR_PINGS // 10)
            await asyncio.sleep(STIR_EVERY_S)
        return False

    async def _caught(self, role: str, wanted: Wanted) -> Member | None:
        found = await self._catch(role, wanted)
        return None if found is None else found[0]

    async def _catch(self, role: str, wanted: Wanted) -> tuple[Member, Session] | None:
        self._pace.burst(STIR_PINGS)
        return await self._arena.sessions.catch(lambda: self._crew.up(role), wanted, CATCH_WITHIN_S)

    def _later(self, what: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(what)
        self._returning.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: "asyncio.Task[None]") -> None:
        self._returning.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.wrongs.append(f"one who comes and goes by himself: {error!r}")
