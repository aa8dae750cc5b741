"""What goes wrong in a run, drawn from its seed: the same seed is the same list of faults.

The list is fixed; when each of its faults strikes is not, for some wait until a victim is inside a transaction. Faults
overlap where one carries others (`meanwhile`): they strike while its server is down.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from random import Random

from msgspec import Struct
from msgspec.structs import replace


class Kind(StrEnum):
    """What a fault does."""

    KILL = "SIGKILL"
    KILL_IN_TRANSACTION = "SIGKILL inside a transaction"
    STOP = "two ingests stopped, one inside its transaction, one with a batch in hand"
    SESSIONS = "pg_terminate_backend on every session"
    SESSION_IN_TRANSACTION = "pg_terminate_backend inside the transaction of a batch"
    DATABASE_KILL = "database killed (SIGKILL of the server)"
    DATABASE_STOP = "database stopped"
    BROKER_KILL = "broker killed (SIGKILL)"
    BROKER_STOP = "broker stopped"
    LEAVE = "a member leaves and comes back"
    JOIN = "a member more for a while"
    CUT_COMMIT = "a COMMIT is carried out without an answer"
    LOSE_COMMIT = "a COMMIT does not arrive"
    HOLD_COMMIT = "a COMMIT is slow"


KILLS = (Kind.KILL, Kind.KILL_IN_TRANSACTION)
DATABASE_KILLS = (Kind.SESSIONS, Kind.DATABASE_KILL)
"""Every session at once, or the server: a crash. One session ended and a server stopped with grace are none."""
BROKER_OUTAGES = (Kind.BROKER_KILL, Kind.BROKER_STOP)
OUTAGES = (Kind.DATABASE_KILL, Kind.DATABASE_STOP, *BROKER_OUTAGES)


class Fault(Struct, frozen=True):
    """`role`: whose process; `lasts_s`: how long the victim is down, stopped or away; `calm_s`: the pause after it.

    `meanwhile`: what strikes while this server is down.
    """

    kind: Kind
    role: str = ""
    lasts_s: float = 0.0
    calm_s: float = 0.0
    meanwhile: tuple["Fault", ...] = ()


class Need(Struct, frozen=True):
    """What a run must have met to count."""

    kills_in_transaction: int = 10
    redelivered: int = 1
    fenced: int = 1
    in_doubt: int = 1


class Scale(Struct, frozen=True):
    """How much of everything. `kills`: all SIGKILLs of members, a third of which wait for a transaction; `more_tries`:
    for what the plan did not bring about.

    `brisk`: faults that stall a group until its session time-out come last and together, so that it is waited for once.
    """

    pings: int = 100_000
    machines: int = 250
    kills: int = 30
    sessions_kills: int = 5
    session_ends: int = 3
    database_kills: int = 5
    database_stops: int = 3
    broker_kills: int = 2
    broker_stops: int = 3
    stops: int = 4
    leaves: int = 6
    joins: int = 4
    cut_commits: int = 3
    lost_commits: int = 3
    held_commits: int = 3
    calm_s: float = 4.0
    outage_s: float = 5.0
    need: Need = Need()
    brisk: bool = False
    more_tries: int = 6


STOPPED_S = 13.0
"""Longer than the session time-out of the group and of the database (10 s each)."""
MIN_S = 2.0

DEFAULT = Scale()
SHORT = Scale(
    pings=4_000,
    machines=40,
    kills=5,
    sessions_kills=1,
    session_ends=1,
    database_kills=1,
    database_stops=0,
    broker_kills=1,
    broker_stops=0,
    stops=1,
    leaves=1,
    joins=1,
    cut_commits=1,
    lost_commits=1,
    held_commits=1,
    calm_s=0.6,
    outage_s=1.5,
    need=Need(kills_in_transaction=2),
    brisk=True,
)

_OVERHEAD_S = {Kind.STOP: 8.0} | dict.fromkeys(OUTAGES, 6.0)
_IN_PASSING = {*KILLS, Kind.LEAVE, Kind.JOIN}
_KILLED_ROLES = ("ingest",) * 5 + ("notify",) * 4 + ("schedule", "gateway", "api")
_GROUPS = ("ingest", "ingest", "notify")


def expected_s(faults: Sequence[Fault]) -> float:
    """About how long these take: the pings are spread over it."""
    return MIN_S + sum(
        fault.calm_s + _OVERHEAD_S.get(fault.kind, 2.0) + (0 if fault.kind in _IN_PASSING else fault.lasts_s)
        for fault in faults
    )


def planned(faults: Sequence[Fault]) -> Counter[Kind]:
    """How often each kind is to strike, what strikes meanwhile included."""
    return Counter(one.kind for fault in faults for one in (fault, *fault.meanwhile))


def plan(seed: int, scale: Scale) -> tuple[Fault, ...]:
    """The faults of a run, in order."""
    rng = Random(seed)
    kills = _some(rng, scale, Kind.KILL, scale.kills - _aimed(scale), _KILLED_ROLES, lasts_s=1.0)
    leaves = _some(rng, scale, Kind.LEAVE, scale.leaves, _GROUPS, lasts_s=2.0)
    faults = [*_overlapping(_outages(rng, scale), kills, leaves), *kills, *leaves]
    faults += _some(rng, scale, Kind.KILL_IN_TRANSACTION, _aimed(scale), _GROUPS, lasts_s=1.0)
    faults += _some(rng, scale, Kind.SESSIONS, scale.sessions_kills)
    faults += _some(rng, scale, Kind.SESSION_IN_TRANSACTION, scale.session_ends, _GROUPS)
    faults += _some(rng, scale, Kind.JOIN, scale.joins, _GROUPS, lasts_s=5.0)
    faults += [replace(one, lasts_s=STOPPED_S) for one in _some(rng, scale, Kind.STOP, scale.stops)]
    faults += _some(rng, scale, Kind.CUT_COMMIT, scale.cut_commits)
    faults += _some(rng, scale, Kind.LOSE_COMMIT, scale.lost_commits)
    faults += _some(rng, scale, Kind.HOLD_COMMIT, scale.held_commits, lasts_s=1.5)
    rng.shuffle(faults)
    return tuple(sorted(faults, key=_stalls) if scale.brisk else faults)


def _stalls(fault: Fault) -> int:
    """How late a brisk plan has it: what ingest survives without a rebalance first, its dead members last.

    Sleepers come before members that join, for they wait until every member owns partitions.
    """
    if fault.kind in KILLS:
        return 3 if fault.role == "ingest" else 1
    late = {Kind.LEAVE: 1, Kind.STOP: 2, Kind.JOIN: 3} | dict.fromkeys(OUTAGES, 4)
    return late.get(fault.kind, 0)


def _aimed(scale: Scale) -> int:
    return -(-scale.kills // 3)


def _outages(rng: Random, scale: Scale) -> list[Fault]:
    """Of both servers, killed and stopped. Where there are enough of them, a database is stopped amid another's."""
    outages = [
        fault
        for kind, count in (
            (Kind.DATABASE_KILL, scale.database_kills),
            (Kind.BROKER_KILL, scale.broker_kills),
            (Kind.BROKER_STOP, scale.broker_stops),
            (Kind.DATABASE_STOP, scale.database_stops),
        )
        for fault in _some(rng, scale, kind, count, lasts_s=scale.outage_s)
    ]
    if scale.broker_stops and scale.database_stops:
        second = outages.pop()
        place = next(place for place, one in enumerate(outages) if one.kind is Kind.BROKER_STOP)
        outages[place] = replace(outages[place], meanwhile=(second,))
    return outages


def _overlapping(outages: Sequence[Fault], kills: list[Fault], leaves: list[Fault]) -> list[Fault]:
    """By turns a member is killed and one sent away while a server is down, taken from those that are to be."""
    found = []
    for place, outage in enumerate(outages):
        source = (kills, leaves)[place % 2]
        more = (source.pop(),) if source else ()
        found.append(replace(outage, meanwhile=(*outage.meanwhile, *more)))
    return found


def _some(
    rng: Random, scale: Scale, kind: Kind, count: int, roles: Sequence[str] = ("ingest",), lasts_s: float = 0.0
) -> list[Fault]:
    """Times are drawn around the given ones."""
    return [
        Fault(
            kind=kind,
            role="" if kind in OUTAGES else rng.choice(roles),
            lasts_s=lasts_s * rng.uniform(0.5, 1.5),
            calm_s=scale.calm_s * rng.uniform(0.3, 1.7),
        )
        for _ in range(count)
    ]
