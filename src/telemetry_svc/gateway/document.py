"""Ping v1 as the OpenAPI document shows it. The decoder is what counts; a test holds the two together."""

from typing import Any

_NAME = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}


def _number(low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high}


def _integer(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


FAULT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spn", "fmi"],
    "properties": {
        "spn": _integer(0, 524_287),
        "fmi": _integer(0, 31),
        "occurrence_count": _integer(0, 127) | {"default": 1},
        "source_address": _integer(0, 255) | {"default": 0},
        "lamp": {
            "type": "string",
            "enum": ["none", "protect", "amber_warning", "red_stop", "malfunction"],
            "default": "none",
        },
    },
}

POSITION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["latitude_deg", "longitude_deg"],
    "properties": {
        "latitude_deg": _number(-90, 90),
        "longitude_deg": _number(-180, 180),
        "altitude_m": _number(-500, 9_000),
        "speed_kmh": _number(0, 300),
        "heading_deg": _number(0, 360),
    },
}

SENSORS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "coolant_temperature_c": _number(-60, 250),
        "oil_pressure_kpa": _number(0, 2_000),
        "fuel_level_pct": _number(0, 100),
        "battery_v": _number(0, 100),
    },
}

PING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "Ping v1: besides the required fields at least one of hour_meter_h, position, faults, sensors and "
    "engine_running. Unknown fields are ignored, null is absent.",
    "required": ["machine_id", "recorded_at"],
    "properties": {
        "machine_id": _NAME,
        "recorded_at": {"type": "string", "format": "date-time", "description": "RFC 3339 with an offset"},
        "hour_meter_h": _number(0, 200_000),
        "position": POSITION_SCHEMA,
        "faults": {
            "type": "array",
            "maxItems": 64,
            "items": FAULT_SCHEMA,
            "description": "empty: no active fault of any source address; absent: not reported",
        },
        "sensors": SENSORS_SCHEMA,
        "engine_running": {"type": "boolean"},
        "device_id": _NAME,
        "sequence": _integer(0, 2**63 - 1),
    },
}

PING_EXAMPLE: dict[str, Any] = {
    "machine_id": "ZE215-000017",
    "recorded_at": "2026-11-22T04:20:31Z",
    "hour_meter_h": 249.9,
    "position": {"latitude_deg": 28.228, "longitude_deg": 112.939, "altitude_m": 61.0, "speed_kmh": 0.0},
    "faults": [{"spn": 110, "fmi": 0, "occurrence_count": 3, "source_address": 0, "lamp": "red_stop"}],
    "sensors": {"coolant_temperature_c": 88.5, "oil_pressure_kpa": 310, "fuel_level_pct": 41, "battery_v": 27.6},
    "engine_running": True,
    "device_id": "868120241234567",
    "sequence": 81234,
}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "at most 1 000 pings and 1 MiB, not compressed",
    "content": {
        "application/json": {
            "schema": {"type": "array", "minItems": 1, "maxItems": 1_000, "items": PING_SCHEMA},
            "example": [PING_EXAMPLE],
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "one ping a line"},
            "example": '{"machine_id":"ZE215-000017","recorded_at":"2026-11-22T04:20:31Z","hour_meter_h":249.9}\n',
        },
    },
}
