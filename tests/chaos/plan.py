"""What goes wrong in a run, drawn from its seed: the same seed is the same list of faults.

The list is fixed; when each of its faults strikes is not, for some wait until a victim is inside a transaction.
"""

from collections.abc import Sequence
from enum import StrEnum
from random import Random

from msgspec import Struct


class Kind(StrEnum):
    """What a fault does."""

    KILL = "SIGKILL"
    KILL_IN_TRANSACTION = "SIGKILL inside a transaction"
    STOP = "two ingests stopped, one inside its transaction, one with a batch in hand"
    SESSIONS = "pg_terminate_backend on every session"
    SESSIONS_IN_TRANSACTION = "pg_terminate_backend inside the transaction of a batch"
    DATABASE = "database stopped"
    BROKER = "broker stopped"
    LEAVE = "a member leaves and comes back"
    JOIN = "a member more for a while"
    CUT_COMMIT = "a COMMIT is carried out without an answer"
    LOSE_COMMIT = "a COMMIT does not arrive"
    HOLD_COMMIT = "a COMMIT is slow"


class Fault(Struct, frozen=True):
    """`role`: whose process; `lasts_s`: how long the victim is down, stopped or away; `calm_s`: the pause after it."""

    kind: Kind
    role: str = ""
    lasts_s: float = 0.0
    calm_s: float = 0.0
    graceful: bool = True


class Need(Struct, frozen=True):
    """What a run must have met to count."""

    kills_in_transaction: int = 10
    redelivered: int = 1
    fenced: int = 1
    in_doubt: int = 1


class Scale(Struct, frozen=True):
    """How much of everything. `kills`: all SIGKILLs, a third of which wait for a transaction.

    `brisk`: faults that stall a group until its session time-out come last and together, so that it is waited for once.
    """

    pings: int = 100_000
    machines: int = 250
    kills: int = 30
    database_kills: int = 10
    broker_outages: int = 5
    stops: int = 4
    leaves: int = 4
    joins: int = 4
    cut_commits: int = 3
    lost_commits: int = 3
    held_commits: int = 3
    calm_s: float = 4.0
    outage_s: float = 5.0
    need: Need = Need()
    brisk: bool = False


STOPPED_S = 13.0
"""Longer than the session time-out of the group and of the database (10 s each)."""
MIN_S = 2.0

DEFAULT = Scale()
SHORT = Scale(
    pings=4_000,
    machines=40,
    kills=5,
    database_kills=3,
    broker_outages=1,
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

_OVERHEAD_S = {Kind.STOP: 8.0, Kind.BROKER: 8.0, Kind.DATABASE: 5.0}
_IN_PASSING = {Kind.KILL, Kind.KILL_IN_TRANSACTION, Kind.LEAVE, Kind.JOIN}
_KILLED_ROLES = ("ingest",) * 5 + ("notify",) * 4 + ("schedule", "gateway", "api")
_GROUPS = ("ingest", "ingest", "notify")


def expected_s(faults: Sequence[Fault]) -> float:
    """About how long these take: the pings are spread over it."""
    return MIN_S + sum(
        fault.calm_s + _OVERHEAD_S.get(fault.kind, 2.0) + (0 if fault.kind in _IN_PASSING else fault.lasts_s)
        for fault in faults
    )


def plan(seed: int, scale: Scale) -> tuple[Fault, ...]:
    """The faults of a run, in order."""
    rng = Random(seed)
    faults = [*_kills(rng, scale), *_database(rng, scale), *_group(rng, scale)]
    faults += [_fault(rng, scale, Kind.BROKER, lasts_s=scale.outage_s) for _ in range(scale.broker_outages)]
    faults += [_fault(rng, scale, Kind.STOP, "ingest", lasts_s=STOPPED_S) for _ in range(scale.stops)]
    faults += [_fault(rng, scale, Kind.CUT_COMMIT, "ingest") for _ in range(scale.cut_commits)]
    faults += [_fault(rng, scale, Kind.LOSE_COMMIT, "ingest") for _ in range(scale.lost_commits)]
    faults += [_fault(rng, scale, Kind.HOLD_COMMIT, "ingest", lasts_s=1.5) for _ in range(scale.held_commits)]
    rng.shuffle(faults)
    return tuple(sorted(faults, key=_stalls) if scale.brisk else faults)


def _stalls(fault: Fault) -> int:
    """How late a brisk plan has it: what ingest survives without a rebalance first, its dead members last."""
    if fault.kind in {Kind.KILL, Kind.KILL_IN_TRANSACTION}:
        return 3 if fault.role == "ingest" else 1
    return {Kind.LEAVE: 1, Kind.JOIN: 1, Kind.STOP: 2, Kind.BROKER: 4, Kind.DATABASE: 4}.get(fault.kind, 0)


def _kills(rng: Random, scale: Scale) -> list[Fault]:
    aimed = -(-scale.kills // 3)
    faults = [_fault(rng, scale, Kind.KILL_IN_TRANSACTION, rng.choice(_GROUPS), lasts_s=1.0) for _ in range(aimed)]
    faults += [
        _fault(rng, scale, Kind.KILL, rng.choice(_KILLED_ROLES), lasts_s=1.0) for _ in range(scale.kills - aimed)
    ]
    return faults


def _database(rng: Random, scale: Scale) -> list[Fault]:
    """A third each: every session at once, one session inside a transaction, the server itself."""
    kinds = (Kind.SESSIONS_IN_TRANSACTION, Kind.DATABASE, Kind.SESSIONS)
    return [
        _fault(rng, scale, kinds[place % 3], rng.choice(_GROUPS), lasts_s=scale.outage_s)
        for place in range(scale.database_kills)
    ]


def _group(rng: Random, scale: Scale) -> list[Fault]:
    faults = [_fault(rng, scale, Kind.LEAVE, rng.choice(_GROUPS), lasts_s=2.0) for _ in range(scale.leaves)]
    return faults + [_fault(rng, scale, Kind.JOIN, rng.choice(_GROUPS), lasts_s=5.0) for _ in range(scale.joins)]


def _fault(rng: Random, scale: Scale, kind: Kind, role: str = "", lasts_s: float = 0.0) -> Fault:
    """Times are drawn around the given ones; a server is stopped with grace or, every other time, by SIGKILL, after
    which a broker needs 20 s: too long for a brisk plan.
    """
    return Fault(
        kind=kind,
        role=role,
        lasts_s=lasts_s * (1.0 if kind is Kind.STOP else rng.uniform(0.5, 1.5)),
        calm_s=scale.calm_s * rng.uniform(0.3, 1.7),
        graceful=rng.random() < 0.5 or scale.brisk,
    )
