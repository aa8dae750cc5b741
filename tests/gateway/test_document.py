"""What OpenAPI says of a ping is what the decoder takes: at each bound, and just beyond it."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from telemetry_svc.codec import ping
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.gateway.document import FAULT_SCHEMA, PING_EXAMPLE, PING_SCHEMA, POSITION_SCHEMA, SENSORS_SCHEMA
from telemetry_svc.telemetry import Fault, Ping, Position, Sensors

MINIMAL = {"machine_id": "A", "recorded_at": "2026-11-22T04:20:31Z", "engine_running": True}


def _ping(path: tuple[str, ...], value: Any) -> bytes:
    given: dict[str, Any] = copy.deepcopy(MINIMAL)
    *outer, name = path
    match outer:
        case ["faults"]:
            given["faults"] = [{"spn": 110, "fmi": 0} | {name: value}]
        case ["position"]:
            given["position"] = {"latitude_deg": 0, "longitude_deg": 0} | {name: value}
        case ["sensors"]:
            given["sensors"] = {name: value}
        case _:
            given[name] = value
    return json.dumps(given).encode()


def _bounds() -> Iterator[Any]:
    parts = [((), PING_SCHEMA), (("faults",), FAULT_SCHEMA), (("position",), POSITION_SCHEMA)]
    for prefix, schema in [*parts, (("sensors",), SENSORS_SCHEMA)]:
        for name, field in schema["properties"].items():
            if "minimum" in field:
                path = (*prefix, name)
                yield pytest.param(path, field["minimum"], field["maximum"], id=".".join(path))


@pytest.mark.parametrize(("path", "low", "high"), list(_bounds()))
def test_bounds(path: tuple[str, ...], low: float, high: float) -> None:
    for value, good in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        assert isinstance(ping.decode(_ping(path, value)), Rejected) is not good, value


def test_the_same_fields() -> None:
    assert PING_SCHEMA["properties"].keys() == set(Ping.__struct_fields__) - {"hour_meter_ch"} | {"hour_meter_h"}
    assert FAULT_SCHEMA["properties"].keys() == set(Fault.__struct_fields__)
    assert POSITION_SCHEMA["properties"].keys() == set(Position.__struct_fields__)
    assert SENSORS_SCHEMA["properties"].keys() == set(Sensors.__struct_fields__)


def test_the_example_is_a_good_ping() -> None:
    decoded = ping.decode(json.dumps(PING_EXAMPLE).encode())
    assert isinstance(decoded, Ping)
    assert decoded.hour_meter_ch == 24_990


def test_required_fields_are_required() -> None:
    for name in PING_SCHEMA["required"]:
        assert isinstance(ping.decode(json.dumps({**PING_EXAMPLE, name: None}).encode()), Rejected)
