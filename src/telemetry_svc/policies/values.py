"""The kinds of value a policy file is written in, and how they become the numbers that rules compare.

A file says `15 min` and `0.1` hours, because people read it; the rules get seconds, timedeltas and whole centihours,
because they must compare exactly.
"""

from datetime import timedelta
from math import isfinite
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from telemetry_svc.units import CENTIHOURS_PER_HOUR

UNIT_S = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


class Block(BaseModel):
    """A mapping of a policy file: every key known, nothing converted by guess."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _timedelta(value: object) -> timedelta:
    match str(value).split():
        case [number, unit] if unit in UNIT_S:
            try:
                return timedelta(seconds=_number(float(number)) * UNIT_S[unit])
            except (ValueError, OverflowError):
                pass
    raise ValueError(f'a duration is a number and one of {", ".join(UNIT_S)}, such as "15 min"')


def _seconds(value: object) -> float:
    return _timedelta(value).total_seconds()


def _whole_seconds(value: object) -> int:
    seconds = _seconds(value)
    if seconds != int(seconds):
        raise ValueError("whole seconds are wanted here")
    return int(seconds)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("a number is wanted here")
    return float(value)


def _centihours(value: object) -> int:
    hours_h = _number(value)
    hundredths = round(hours_h * CENTIHOURS_PER_HOUR)
    if abs(hundredths - hours_h * CENTIHOURS_PER_HOUR) > 1e-6:
        raise ValueError("hours have at most two decimals")
    return hundredths


Duration = Annotated[timedelta, BeforeValidator(_timedelta), Field(ge=timedelta(0))]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
WholeSeconds = Annotated[int, BeforeValidator(_whole_seconds), Field(gt=0)]
Hours = Annotated[int, BeforeValidator(_centihours), Field(ge=0)]
"""Centihours in the model (field `…_ch`), hours in the file (key `…_h`)."""

Number = Annotated[float, BeforeValidator(_number)]
"""A float that may be written as a whole number, never as text, infinite or not a number."""

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Tonnes = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Sentence = Annotated[str, Field(min_length=10)]
SentenceZh = Annotated[str, Field(min_length=4)]
