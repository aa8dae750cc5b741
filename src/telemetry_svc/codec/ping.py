"""Ping v1: JSON bytes to a `Ping` or a named refusal (contract.md, Ping v1).

Two looks. The fast one takes only what needs no thought: known fields, known types, in range; because it forbids
unknown fields it never has to see bad UTF-8, deep nesting or odd numbers in places it would skip. Whatever it refuses
gets the strict look of `strict_json`, which decides the class.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from telemetry_svc.codec.rejected import ErrorClass, Rejected, rejected
from telemetry_svc.codec.strict_json import MalformedJsonError, UntakenJsonError, parse
from telemetry_svc.telemetry import Fault, Lamp, MachineId, Ping, Position, Sensors
from telemetry_svc.units import Centihours

MAX_BYTES = 64 * 1024
MAX_FAULTS = 64
MAX_HOURS_CH = 200_000 * 100
FUTURE_AFTER = timedelta(minutes=5)

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d+))?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


class _WirePosition(Struct, forbid_unknown_fields=True, gc=False):
    latitude_deg: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude_deg: Annotated[float, Meta(ge=-180, le=180)] | None = None
    altitude_m: Annotated[float, Meta(ge=-500, le=9_000)] | None = None
    speed_kmh: Annotated[float, Meta(ge=0, le=300)] | None = None
    heading_deg: Annotated[float, Meta(ge=0, le=360)] | None = None


class _WireFault(Struct, forbid_unknown_fields=True, gc=False):
    spn: Annotated[int, Meta(ge=0, le=524_287)]
    fmi: Annotated[int, Meta(ge=0, le=31)]
    occurrence_count: Annotated[int, Meta(ge=0, le=127)] | None = None
    source_address: Annotated[int, Meta(ge=0, le=255)] | None = None
    lamp: Lamp | None = None


class _WireSensors(Struct, forbid_unknown_fields=True, gc=False):
    coolant_temperature_c: Annotated[float, Meta(ge=-60, le=250)] | None = None
    oil_pressure_kpa: Annotated[float, Meta(ge=0, le=2_000)] | None = None
    fuel_level_pct: Annotated[float, Meta(ge=0, le=100)] | None = None
    battery_v: Annotated[float, Meta(ge=0, le=100)] | None = None


class _WirePing(Struct, forbid_unknown_fields=True):
    machine_id: str
    recorded_at: str
    hour_meter_h: Raw | msgspec.UnsetType = UNSET
    position: _WirePosition | None = None
    faults: Annotated[list[_WireFault], Meta(max_length=MAX_FAULTS)] | None = None
    sensors: _WireSensors | None = None
    engine_running: bool | None = None
    device_id: str | None = None
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


_WIRE = msgspec.json.Decoder(_WirePing)
_ENCODER = msgspec.json.Encoder()
_EMPTY_POSITION = _WirePosition()
_EMPTY_SENSORS = _WireSensors()
_TOP_FIELDS = frozenset(_WirePing.__struct_fields__)
_NESTED_FIELDS = {
    "position": frozenset(_WirePosition.__struct_fields__),
    "sensors": frozenset(_WireSensors.__struct_fields__),
    "faults": frozenset(_WireFault.__struct_fields__),
}


class _InvalidPingError(ValueError):
    """The text names the field and the reason."""


def decode(raw: bytes | None) -> Ping | Rejected:
    """A Ping v1 from its JSON bytes, or why not: `too_large`, `malformed` or `invalid`, checked in that order.

    Source: contract.md, Ping v1. Never raises.
    """
    if not raw:
        return rejected(ErrorClass.MALFORMED, "the record has no value")
    if len(raw) > MAX_BYTES:
        return rejected(ErrorClass.TOO_LARGE, f"{len(raw)} bytes; a ping has at most {MAX_BYTES}")
    try:
        return _ping_from(_WIRE.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _InvalidPingError):
        return _second_look(raw)


def _second_look(raw: bytes) -> Ping | Rejected:
    try:
        return _ping_from(_WIRE.decode(msgspec.json.encode(_known_only(parse(raw)))))
    except MalformedJsonError as error:
        return rejected(ErrorClass.MALFORMED, str(error))
    except (UntakenJsonError, _InvalidPingError, msgspec.MsgspecError) as error:
        return rejected(ErrorClass.INVALID, str(error))


def _known_only(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        message = "a ping is a JSON object"
        raise _InvalidPingError(message)
    known = {name: value for name, value in document.items() if name in _TOP_FIELDS}
    for name, fields in _NESTED_FIELDS.items():
        known[name] = _without_unknown(known.get(name), fields)
    return known


def _without_unknown(value: Any, fields: frozenset[str]) -> Any:
    match value:
        case dict():
            return {name: inner for name, inner in value.items() if name in fields}
        case list():
            return [_without_unknown(inner, fields) for inner in value[: MAX_FAULTS + 1]]
        case _:
            return value


def _ping_from(wire: _WirePing) -> Ping:
    ping = Ping(
        machine_id=MachineId(_name("machine_id", wire.machine_id)),
        recorded_at=_instant(wire.recorded_at),
        hour_meter_ch=None if wire.hour_meter_h is UNSET else _centihours(wire.hour_meter_h),
        position=None if wire.position is None else _position(wire.position),
        faults=None if wire.faults is None else tuple(map(_fault, wire.faults)),
        sensors=None if wire.sensors is None else _sensors(wire.sensors),
        engine_running=wire.engine_running,
        device_id=None if wire.device_id is None else _name("device_id", wire.device_id),
        sequence=wire.sequence,
    )
    if (
        ping.hour_meter_ch is None
        and ping.position is None
        and ping.faults is None
        and ping.sensors is None
        and ping.engine_running is None
    ):
        message = "none of hour_meter_h, position, faults, sensors, engine_running is there"
        raise _InvalidPingError(message)
    return ping


def _name(field: str, value: str) -> str:
    if NAME.fullmatch(value) is None:
        message = f"{field} is not 1-64 characters of A-Z a-z 0-9 . _ -"
        raise _InvalidPingError(message)
    return value


def _instant(value: str) -> datetime:
    if _RFC3339.fullmatch(value) is None:
        message = "recorded_at is not an RFC 3339 time with an offset"
        raise _InvalidPingError(message)
    try:
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        message = "recorded_at is no day of the calendar"
        raise _InvalidPingError(message) from None
    if not 2000 <= moment.year <= 2099:
        message = "recorded_at is outside the years 2000-2099"
        raise _InvalidPingError(message)
    finer = moment.microsecond % 1000
    return moment - timedelta(microseconds=finer) if finer else moment


def _centihours(raw: Raw) -> Centihours | None:
    text = bytes(raw)
    whole, _, fraction = text.partition(b".")
    if whole.isdigit() and len(whole) <= 6 and (fraction.isdigit() or whole == text):
        value_ch = int(whole) * 100 + int((fraction + b"00")[:2])
        if value_ch < MAX_HOURS_CH:
            return Centihours(value_ch)
    return _odd_centihours(text)


def _odd_centihours(text: bytes) -> Centihours | None:
    """What the digits-only way left over: null, exponents, signs, the very limit, and what is no number at all."""
    if text == b"null":
        return None
    if _NUMBER.fullmatch(text) is None:
        message = "hour_meter_h is not a number"
        raise _InvalidPingError(message)
    hours_h = _exact(text)
    if hours_h is None or not 0 <= hours_h <= 200_000:
        message = "hour_meter_h is outside 0-200000"
        raise _InvalidPingError(message)
    return Centihours(int(hours_h * 100))


def _exact(text: bytes) -> Fraction | None:
    """The number to the last digit; None where its exponent alone puts it out of reach."""
    value = float(text)
    if not 0 <= value <= 1e6:
        return None
    if value:
        return Fraction(text.decode())
    below_zero = text.startswith(b"-") and text[1:].lower().partition(b"e")[0].strip(b"0.") != b""
    return None if below_zero else Fraction(0)


def _position(wire: _WirePosition) -> Position | None:
    if wire == _EMPTY_POSITION:
        return None
    if wire.latitude_deg is None or wire.longitude_deg is None:
        message = "a position needs latitude_deg and longitude_deg"
        raise _InvalidPingError(message)
    return Position(wire.latitude_deg, wire.longitude_deg, wire.altitude_m, wire.speed_kmh, wire.heading_deg)


def _sensors(wire: _WireSensors) -> Sensors | None:
    if wire == _EMPTY_SENSORS:
        return None
    return Sensors(wire.coolant_temperature_c, wire.oil_pressure_kpa, wire.fuel_level_pct, wire.battery_v)


def _fault(wire: _WireFault) -> Fault:
    return Fault(
        wire.spn,
        wire.fmi,
        1 if wire.occurrence_count is None else wire.occurrence_count,
        wire.source_address or 0,
        wire.lamp or Lamp.NONE,
    )


def is_future(recorded_at: datetime, received_at: datetime) -> bool:
    """Dated more than 5 min after the broker's append time (contract.md: kept, marked, raises nothing)."""
    return recorded_at - received_at > FUTURE_AFTER


def dedupe_number(ping: Ping) -> int:
    """What makes two pings of one machine and instant the same: the sequence or, without one, minus a 63-bit hash of
    the content after decoding. Range: -2**63 … 2**63 - 1."""
    if ping.sequence is not None:
        return ping.sequence
    content = _ENCODER.encode(ping).replace(b":-0.0,", b":0.0,").replace(b":-0.0}", b":0.0}")
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return -1 - (int.from_bytes(digest) >> 1)
