"""What goes wrong in a simulated life: a list made from the seed before the life begins.

A fault names a process (or the whole database or broker) and the step of it at which it strikes, so it can be taken out
of the list without touching the others: that is how a failing list is made shorter.
"""

import random
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

HEAL_S = 20.0
"""From then on nothing goes wrong any more, and all must come right."""


class Kind(StrEnum):
    """`AFTER` in a name: the step was done, and only its answer never came."""

    KILL = "kill"
    KILL_AFTER = "kill_after"
    STALL = "stall"
    STALL_AFTER = "stall_after"
    SLOW = "slow"
    LOST_REQUEST = "lost_request"
    LOST_ANSWER = "lost_answer"
    SESSION_KILLED = "session_killed"
    DEADLOCK = "deadlock"
    DATABASE_DOWN = "database_down"
    BROKER_DOWN = "broker_down"
    LEAVE = "leave"
    WAKE_LOST = "wake_lost"


class Fault(Struct, frozen=True):
    """`point`: a named step ("" = any) and `nth` of those steps of `actor`'s, from 1; or `at_s` after the beginning.

    `for_s`: how long a stall, a slow step or an outage lasts.
    """

    kind: Kind
    actor: str
    point: str = ""
    nth: int = 0
    at_s: float = 0.0
    for_s: float = 0.0

    def __str__(self) -> str:
        when = f"at {self.at_s:.1f} s" if self.at_s else f"at step {self.nth}{f' {self.point}' if self.point else ''}"
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.kind} {self.actor} {when}{lasting}"


_COMMITS = ("commit", "commit", "commit")
_POINTS = {
    "ingest": (
        "",
        "getmany",
        "ends",
        "take_over",
        "advance",
        "copy",
        "save_states",
        "add_events",
        "enqueue",
        *_COMMITS,
    ),
    "notify": ("", "getmany", "take_over", "advance", "execute", "execute", "enqueue", *_COMMITS),
    "relay": ("", "lock_waiting", "send", "send", "ack", "ack", "mark_sent", "commit", "commit"),
    "schedule": ("", "commit"),
    "office": ("", "commit"),
    "expert": ("", "claim", "commit"),
    "sweep": ("", "commit"),
}
_SLEEPS = {
    "ingest": ("getmany", "getmany", "advance", "advance", "load_states", "copy", "commit", ""),
    "notify": ("getmany", "getmany", "advance", "advance", "execute", "execute", "commit", ""),
}
_STEPS = {"ingest": 120, "notify": 80, "relay": 150, "schedule": 60, "office": 20, "expert": 45, "sweep": 20}
_FURTHEST = {"getmany": 20, "execute": 35, "ends": 6, "take_over": 2, "claim": 4}
_ONCE_IN_A_LIFE = 8
"""How many steps of each sort a life has before it is healed, about: what is drawn beyond them never strikes."""
_SLEEP_S = (0.5, 4, 13, 16)
_LONG_SLEEP_S = (10.2, 12, 15)
_SLOW_S = (0.3, 1.5, 3, 11)

_KILLS = (Kind.KILL, Kind.KILL_AFTER)
_CUTS = (Kind.LOST_ANSWER, Kind.LOST_ANSWER, Kind.LOST_REQUEST, Kind.SESSION_KILLED, Kind.DEADLOCK)
_LATE = (Kind.SLOW, Kind.SLOW, Kind.STALL, Kind.STALL_AFTER, Kind.KILL_AFTER)
_ANYTHING = (*_KILLS, *_CUTS, Kind.STALL, Kind.STALL_AFTER, Kind.SLOW)


_TWICE = ("kills", "cuts", "zombies", "anything")
THEMES = ("none", *_TWICE, *_TWICE, "outages", "moves", "relays")
BUSY = {"moves", "cuts"}
"""Themes that tell most where there is much of one machine: what is wrong with it must be decided on again."""
IN_PAIRS = {"zombies": ("ingest", "notify"), "moves": ("ingest", "notify"), "relays": ("relay",)}
"""Roles of which a theme tells most where there are two at work."""


def draw(rng: random.Random, actors: list[str], theme: str) -> list[Fault]:
    """The faults of a life. Each life has a theme, so that faults meet that are worst together; one in twelve has
    none."""
    match theme:
        case "none":
            return []
        case "kills":
            faults = [_at_step(rng, rng.choice(_KILLS), rng.choice(actors)) for _ in range(rng.randint(2, 8))]
        case "cuts":
            most = [actor for actor in actors if actor.startswith("ingest")] * len(actors)
            faults = [_at_step(rng, rng.choice(_CUTS), rng.choice(actors + most)) for _ in range(rng.randint(3, 8))]
        case "relays":
            relays = [actor for actor in actors if actor.startswith("relay")]
            faults = [_at_step(rng, rng.choice(_LATE), rng.choice(relays)) for _ in range(rng.randint(3, 8))]
        case "zombies":
            faults = [_zombie(rng, actors) for _ in range(rng.randint(1, 3))]
        case "moves":
            faults = list(_moves(rng, actors))
        case "outages":
            faults = [_outage(rng, actors) for _ in range(rng.randint(2, 4))]
        case _:
            faults = [_at_step(rng, rng.choice(_ANYTHING), rng.choice(actors)) for _ in range(rng.randint(2, 8))]
    return faults + [_outage(rng, actors) for _ in range(rng.choice((0, 0, 0, 1)))]


def _at_step(rng: random.Random, kind: Kind, actor: str) -> Fault:
    point = rng.choice(_POINTS[role_of(actor)])
    for_s = {Kind.STALL: _SLEEP_S, Kind.STALL_AFTER: _SLEEP_S, Kind.SLOW: _SLOW_S}.get(kind, (0.0,))
    return Fault(kind, actor, point, _nth(rng, actor, point), for_s=rng.choice(for_s))


def role_of(actor: str) -> str:
    """Of a process by its name, as `ingest-1`."""
    return actor.partition("-")[0]


def _nth(rng: random.Random, actor: str, point: str, share: int = 1) -> int:
    """Which of the steps; `share`: 3 is one in the first third of them."""
    furthest = _FURTHEST.get(point, _ONCE_IN_A_LIFE) if point else _STEPS[role_of(actor)]
    return rng.randint(1, max(1, furthest // share))


def _zombie(rng: random.Random, actors: list[str]) -> Fault:
    """A member sleeps longer than its session lives, most likely while another is there to take over."""
    actor = rng.choice(_paired(actors))
    point = rng.choice(_SLEEPS[role_of(actor)])
    kind, for_s = rng.choice((Kind.STALL, Kind.STALL_AFTER)), rng.choice(_LONG_SLEEP_S)
    return Fault(kind, actor, point, _nth(rng, actor, point, 3), for_s=for_s)


def _moves(rng: random.Random, actors: list[str]) -> Iterator[Fault]:
    """A member leaves and comes back, and again: its partitions go to another and return."""
    members = _paired(actors)
    restless = rng.choice([one for one in members if one.startswith("ingest")] or members)
    at_s = rng.uniform(1, 4)
    while at_s < HEAL_S - 1:
        yield Fault(Kind.LEAVE, restless if rng.random() < 0.8 else rng.choice(members), at_s=at_s)
        at_s += rng.uniform(3, 6)


def _paired(actors: list[str]) -> list[str]:
    """Members that have another beside them, where there are such."""
    members = [one for one in actors if one.startswith(("ingest", "notify"))]
    return [one for one in members if f"{one[:-1]}{3 - int(one[-1])}" in members] or members


def _outage(rng: random.Random, actors: list[str]) -> Fault:
    at_s = rng.uniform(0.5, HEAL_S - 4)
    match rng.choice((Kind.DATABASE_DOWN, Kind.BROKER_DOWN, Kind.LEAVE, Kind.WAKE_LOST)):
        case Kind.DATABASE_DOWN:
            return Fault(Kind.DATABASE_DOWN, "database", at_s=at_s, for_s=rng.uniform(0.5, 4))
        case Kind.BROKER_DOWN:
            return Fault(Kind.BROKER_DOWN, "broker", at_s=at_s, for_s=rng.uniform(0.5, 10))
        case Kind.LEAVE:
            member = rng.choice([actor for actor in actors if actor.startswith(("ingest", "notify"))])
            return Fault(Kind.LEAVE, member, at_s=at_s)
        case _:
            return Fault(Kind.WAKE_LOST, "database", at_s=at_s, for_s=rng.uniform(1, 10))


class Struck(Counter[str]):
    """How often each fault has come about, over any number of lives."""
