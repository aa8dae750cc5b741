"""The fault episodes that must be raised for one machine (policy: "What abnormal means", row fault code).

Each code is judged by itself and from the whole list of what was received: throw away what is out of date, look for
the next report that lists the code, look from there for the one that ends the episode, and begin again behind it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from telemetry_svc.simulate.clauses import CLEARED_AFTER_S, FORGOTTEN_AFTER_H, SEVERITIES, fault_severity
from telemetry_svc.simulate.observed import Seen
from telemetry_svc.units import rfc3339_ms

CLEARED_AFTER = timedelta(seconds=CLEARED_AFTER_S)
FORGOTTEN_AFTER = timedelta(hours=FORGOTTEN_AFTER_H)

Code = tuple[int, int, int]
"""Source address, SPN, FMI: the order in which codes opened by one ping come."""


class Look(NamedTuple):
    """A ping as one code sees it: `reports` its source address; lists it with `severity` (a rank), None if not."""

    recorded_at: datetime
    reports: bool
    severity: int | None
    running: bool


def fault_episodes(seen: Sequence[Seen]) -> Iterator[tuple[str, str, datetime]]:
    """(subject, stage, time) of every opening, worsening and clearing, code by code."""
    for code in _codes(seen):
        looks = list(_looks(code, seen))
        start = _next_active(looks, 0)
        while start is not None:
            end = _end(looks, start)
            yield from _stages(code, looks[start:end], looks[end] if end is not None else None)
            start = _next_active(looks, end + 1) if end is not None else None


def _codes(seen: Sequence[Seen]) -> list[Code]:
    listed = {(fault.source_address, fault.spn, fault.fmi) for one in seen for fault in one.faults or ()}
    return sorted(code for code in listed if code[1:] != (0, 0))


def _looks(code: Code, seen: Sequence[Seen]) -> Iterator[Look]:
    """Leaves out the reports that are no newer than the latest one of the same source address before them."""
    latest: datetime | None = None
    for one in seen:
        look = _look(code, one)
        if look.reports:
            if latest is not None and look.recorded_at <= latest:
                continue
            latest = look.recorded_at
        yield look


def _look(code: Code, one: Seen) -> Look:
    address, spn, fmi = code
    faults = one.faults or ()
    ranks = [
        SEVERITIES.index(fault_severity(spn, fmi, fault.lamp))
        for fault in faults
        if (fault.source_address, fault.spn, fault.fmi) == code
    ]
    reports = one.faults == () or any(fault.source_address == address for fault in faults)
    return Look(one.recorded_at, reports, max(ranks, default=None), one.running)


def _next_active(looks: Sequence[Look], start: int) -> int | None:
    return next((index for index in range(start, len(looks)) if looks[index].severity is not None), None)


def _end(looks: Sequence[Look], start: int) -> int | None:
    """The look that ends the episode which `start` opened, None while it is open."""
    last_active, first_without = looks[start].recorded_at, None
    for index in range(start + 1, len(looks)):
        look = looks[index]
        if look.severity is not None:
            last_active, first_without = look.recorded_at, None
            continue
        if look.reports:
            first_without = first_without or look.recorded_at
            if look.recorded_at >= first_without + CLEARED_AFTER:
                return index
        if look.running and look.recorded_at > last_active + FORGOTTEN_AFTER:
            return index
    return None


def _stages(code: Code, episode: Sequence[Look], ending: Look | None) -> Iterator[tuple[str, str, datetime]]:
    address, spn, fmi = code
    subject = f"{spn}/{fmi}/{address}@{rfc3339_ms(episode[0].recorded_at)}"
    yield subject, "opened", episode[0].recorded_at
    worst = episode[0].severity or 0
    for look in episode:
        if look.severity is not None and look.severity > worst:
            worst = look.severity
            yield subject, f"worsened-{SEVERITIES[worst]}", look.recorded_at
    if ending is not None:
        yield subject, "cleared", ending.recorded_at
