"""Who is in a consumer group, and the rounds in which its partitions are handed out."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from aiokafka import TopicPartition

from tests.simulation.process import Process

SESSION_S = 10.0
HEARTBEAT_S = 2.0


class Member(Protocol):
    """What the group asks of a consumer."""

    name: str
    process: Process
    topics: tuple[str, ...]
    closed: bool

    def giving_up(self) -> "asyncio.Task[None]": ...

    async def receive(self, pairs: set[TopicPartition], generation: int) -> None: ...


class Group:
    """A consumer group: who is in it, and the rounds of handing partitions out (range assignor)."""

    def __init__(self, rng: random.Random, partitions: int, broker_is_up: Callable[[], Awaitable[None]]) -> None:
        self._rng = rng
        self._partitions = partitions
        self._broker_is_up = broker_is_up
        self._members: list[Member] = []
        self._round: asyncio.Task[None] | None = None
        self._generation = 0

    def join(self, member: Member) -> None:
        if member not in self._members:
            self._members.append(member)
        self._changed()

    def leave(self, member: Member, *, after_s: float = 0.0) -> None:
        """Gone at once, or after its session has timed out."""
        asyncio.get_running_loop().call_later(after_s, self._gone, member)

    def has(self, member: Member) -> bool:
        return member in self._members

    def _gone(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)
            self._changed()

    def _changed(self) -> None:
        if self._round is not None:
            self._round.cancel()
        self._round = asyncio.ensure_future(self._hand_out())

    async def _hand_out(self) -> None:
        """Every member gives up what it has; those that do not come in time are put out; the others share."""
        await self._broker_is_up()
        rejoining = {member: member.giving_up() for member in self._members}
        if rejoining:
            await asyncio.wait(rejoining.values(), timeout=SESSION_S)
        for member, came in rejoining.items():
            if not came.done() and member in self._members:
                self._members.remove(member)
                member.process.start(self._come_back(member))
        self._generation += 1
        ready = sorted(self._members, key=lambda member: member.name)
        for place, member in enumerate(ready):
            share = self._share(place, len(ready), member.topics)
            member.process.start(member.receive(share, self._generation))

    def unheard(self, member: Member) -> None:
        """Its session has timed out: it is put out if it is still asleep."""
        if member in self._members and member.process.stalled:
            self._members.remove(member)
            member.process.start(self._come_back(member))
            self._changed()

    async def _come_back(self, member: Member) -> None:
        """A member that slept too long learns of it at its next heartbeat."""
        await member.process.awake()
        await asyncio.sleep(self._rng.uniform(0, HEARTBEAT_S))
        await member.process.awake()
        if not member.closed:
            self.join(member)

    def _share(self, place: int, members: int, topics: Iterable[str]) -> set[TopicPartition]:
        numbers = range(self._partitions)
        each, rest = divmod(len(numbers), members)
        begin = place * each + min(place, rest)
        mine = numbers[begin : begin + each + (place < rest)]
        return {TopicPartition(topic, number) for topic in topics for number in mine}
