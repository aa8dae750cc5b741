"""Fault episodes as the machine lives them: a code that is active from a moment to another, and what DM1 says of it.

The plan knows nothing of opening and clearing: those are decided from what was reported. Kinds that matter to a rule
are all here: every severity, a lamp that turns red on the way, a code that flaps, codes of other source addresses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from telemetry_svc.simulate.spec import FleetSpec

DAY_S = 86_400
SHORTEST_GAP_S = 3 * 3600
SHORTEST_EPISODE_S = 20 * 60
LONGEST_EPISODE_S = 10 * 3600
# 90 s off in 270 s, for 12 min: some gaps clear the episode and some do not, and it never makes a storm.
FLAP_S = 90
FLAPPING_EPISODE_S = 12 * 60
COUNT_EVERY_S = 600
HIGHEST_COUNT = 126


class FaultCode(NamedTuple):
    """One diagnostic trouble code of one source address, with its lamp. Source: SAE J1939-73."""

    spn: int
    fmi: int
    source_address: int
    lamp: str


CRITICAL = (
    FaultCode(110, 0, 0, "red_stop"),
    FaultCode(100, 1, 0, "red_stop"),
    FaultCode(98, 1, 0, "red_stop"),
    FaultCode(190, 0, 0, "red_stop"),
    FaultCode(175, 3, 0, "red_stop"),
)
MAJOR = (
    FaultCode(107, 0, 0, "amber_warning"),
    FaultCode(94, 1, 0, "amber_warning"),
    FaultCode(629, 12, 3, "red_stop"),
)
GENERAL = (
    FaultCode(91, 3, 0, "amber_warning"),
    FaultCode(168, 4, 39, "protect"),
    FaultCode(639, 19, 3, "malfunction"),
    FaultCode(174, 16, 0, "none"),
)
WARNING = (FaultCode(110, 15, 0, "amber_warning"), FaultCode(96, 17, 39, "none"))
# Common things are common: one critical code is drawn as often as a general one, and there are fewer kinds of warning.
CODES = CRITICAL + MAJOR + GENERAL + WARNING


@dataclass(frozen=True, slots=True)
class FaultEpisode:
    """`code` is active in [start_s, end_s); from `red_from_s` on with the red stop lamp; `flaps`: on and off."""

    code: FaultCode
    start_s: int
    end_s: int
    red_from_s: int | None = None
    flaps: bool = False

    def active(self, at_s: int) -> bool:
        """Whether a DM1 message sent at this second lists the code."""
        if not self.start_s <= at_s < self.end_s:
            return False
        return not self.flaps or (at_s - self.start_s) // FLAP_S % 3 != 2

    def report(self, at_s: int) -> dict[str, object]:
        """The code as an element of `faults` of Ping v1."""
        code = self.code
        red = self.red_from_s is not None and at_s >= self.red_from_s
        return {
            "spn": code.spn,
            "fmi": code.fmi,
            "occurrence_count": min(1 + (at_s - self.start_s) // COUNT_EVERY_S, HIGHEST_COUNT),
            "source_address": code.source_address,
            "lamp": "red_stop" if red else code.lamp,
        }


def plan_faults(spec: FleetSpec, rng: Random) -> tuple[FaultEpisode, ...]:
    """The episodes of one machine in order of their start; never two of one code at a time."""
    return tuple(_episodes(spec, rng)) if spec.faults else ()


def _episodes(spec: FleetSpec, rng: Random) -> Iterator[FaultEpisode]:
    busy_until_s = dict.fromkeys(CODES, 0)
    at_s = spec.start_s + _gap_s(spec, rng)
    while at_s < spec.end_s:
        code = rng.choice([code for code, until_s in busy_until_s.items() if until_s < at_s])
        episode = _episode(code, at_s, rng)
        # A day apart, so that the same code is never taken for one long episode by the 24 h rule.
        busy_until_s[code] = episode.end_s + DAY_S
        yield episode
        at_s += SHORTEST_GAP_S + _gap_s(spec, rng)


def _gap_s(spec: FleetSpec, rng: Random) -> int:
    mean_s = max(DAY_S / spec.faults - SHORTEST_GAP_S, 1.0)
    return int(rng.expovariate(1.0 / mean_s))


def _episode(code: FaultCode, start_s: int, rng: Random) -> FaultEpisode:
    if rng.random() < 0.125:
        return FaultEpisode(code, start_s, start_s + FLAPPING_EPISODE_S, flaps=True)
    length_s = rng.randrange(SHORTEST_EPISODE_S, LONGEST_EPISODE_S)
    turns_red = code in GENERAL and rng.random() < 0.5
    return FaultEpisode(code, start_s, start_s + length_s, start_s + length_s // 2 if turns_red else None)
