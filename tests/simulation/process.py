"""A process that can be killed, stopped and woken between any two of its steps.

A step is whatever a process asks of the world outside: a statement, a commit, a fetch, a send. Each passes
`Process.step` before it takes effect and `Process.answered` after; there the seed decides how long it takes and whether
the process dies, sleeps, or never hears the answer. A dead process changes nothing any more, whatever its cleaning up
would like to do.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from tests.simulation.faults import HEAL_S, Fault, Kind, Struck
from tests.simulation.virtual_time import BEGIN_S

HURRY_S = 0.008
_HEALED_S = BEGIN_S + HEAL_S


class Trace:
    """What happened, in order; each line is put together only if somebody reads it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._notes: list[tuple[float, str, str, tuple[Any, ...]]] = []

    def note(self, actor: str, what: str, *details: Any) -> None:
        self._notes.append((self._loop.time() - BEGIN_S, actor, what, details))

    def lines(self) -> list[str]:
        return [
            f"{at_s:8.3f}  {actor:<12} {what} {' '.join(str(one) for one in details)}".rstrip()
            for at_s, actor, what, details in self._notes
        ]


class Surroundings:
    """What all processes of one life share: its chances, its trace, its faults, and when they end."""

    def __init__(self, rng: random.Random, faults: list[Fault], struck: Struck) -> None:
        self.rng = rng
        self.faults = faults
        self.struck = struck
        self.trace = Trace()
        self.loop = asyncio.get_running_loop()

    @property
    def healed(self) -> bool:
        return self.loop.time() >= _HEALED_S

    def strikes(self, kind: Kind, actor: str, *details: Any) -> None:
        self.struck[kind] += 1
        self.trace.note(actor, f"*** {kind}", *details)


class Process:
    """One process of the house under its name; a killed one is never heard of again."""

    def __init__(self, name: str, world: Surroundings) -> None:
        self.name = name
        self.world = world
        self.alive = True
        self.at_death: list[Callable[[], None]] = []
        self.at_stall: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._stalled_until_s = 0.0
        self._rest = getattr(asyncio.get_running_loop(), "rest", asyncio.sleep)
        self._faults = [fault for fault in world.faults if fault.actor == name and fault.nth]
        self._passed: Counter[str] = Counter()

    def start(self, life: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Runs a coroutine as part of the process."""
        task = asyncio.ensure_future(life)
        self._tasks.append(task)
        return task

    async def step(self, point: str) -> Fault | None:
        """Before a step takes effect. Returns the fault that the step itself must carry out, if one is due."""
        self._must_live()
        fault = self._due(point) if self._faults else None
        self.world.trace.note(self.name, point)
        delay_s = self._delay_s()
        if fault is not None:
            if fault.kind is Kind.KILL:
                self.kill()
            elif fault.kind is Kind.STALL:
                self.stall(fault.for_s)
            elif fault.kind is Kind.SLOW:
                delay_s += fault.for_s
            self._must_live()
        if delay_s:
            await self._rest(delay_s)
            self._must_live()
        if self._stalled_until_s:
            await self.awake()
        return fault

    def _delay_s(self) -> float:
        """Half of the steps are answered before anybody else comes to one, the others let some pass."""
        rng = self.world.rng
        return rng.random() * HURRY_S if rng.random() < 0.5 else 0.0

    async def answered(self, fault: Fault | None) -> None:
        """After it took effect, before the process knows."""
        if fault is None and self.alive and not self._stalled_until_s:
            return
        if fault is not None and fault.kind is Kind.KILL_AFTER:
            self.kill()
        elif fault is not None and fault.kind is Kind.STALL_AFTER:
            self.stall(fault.for_s)
        await self.awake()

    async def awake(self) -> None:
        """Waits while the process is stopped. Raises where it is dead."""
        loop = asyncio.get_running_loop()
        while self.alive and self.stalled:  # noqa: ASYNC110 - another fault may let it sleep longer
            await asyncio.sleep(min(self._stalled_until_s, BEGIN_S + HEAL_S + 0.001) - loop.time())
        self._stalled_until_s = 0.0
        self._must_live()

    @property
    def stalled(self) -> bool:
        return self._stalled_until_s > asyncio.get_running_loop().time() and not self.world.healed

    def stall(self, for_s: float) -> None:
        self._stalled_until_s = asyncio.get_running_loop().time() + for_s
        for told in self.at_stall:
            told()

    def kill(self) -> None:
        """SIGKILL: no farewell, no last words."""
        if not self.alive:
            return
        self.alive = False
        for farewell in self.at_death:
            farewell()
        for task in self._tasks:
            task.cancel()

    def _must_live(self) -> None:
        if not self.alive:
            raise asyncio.CancelledError(self.name)

    def _due(self, point: str) -> Fault | None:
        self._passed[""] += 1
        self._passed[point] += 1
        for fault in self._faults:
            if (fault.point in {"", point}) and self._passed[fault.point] == fault.nth:
                self._faults.remove(fault)
                self.world.faults.remove(fault)
                if self.world.healed:
                    return None
                self.world.strikes(fault.kind, self.name, point or "")
                return fault
        return None
