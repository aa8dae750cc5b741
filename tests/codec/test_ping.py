"""Ping v1 against contract.md: every class of refusal, both sides of every limit, and what counts as the same ping."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.codec.ping import decode, dedupe_number, is_future
from telemetry_svc.codec.rejected import ErrorClass, Rejected
from telemetry_svc.telemetry import Fault, Lamp, Ping, Position, Sensors

FULL = """{"machine_id": "ZE215-000017",
 "recorded_at": "2026-11-22T04:20:31Z",
 "hour_meter_h": 249.9,
 "position": {"latitude_deg": 28.228, "longitude_deg": 112.939, "altitude_m": 61.0, "speed_kmh": 0.0,
              "heading_deg": 270},
 "faults": [{"spn": 110, "fmi": 0, "occurrence_count": 3, "source_address": 0, "lamp": "red_stop"}],
 "sensors": {"coolant_temperature_c": 88.5, "oil_pressure_kpa": 310, "fuel_level_pct": 41, "battery_v": 27.6},
 "engine_running": true,
 "device_id": "868120241234567", "sequence": 81234}"""

HEAD = '"machine_id":"ZE215-000017","recorded_at":"2026-11-22T04:20:31Z"'


def ping_with(fields: str) -> bytes:
    return f"{{{HEAD},{fields}}}".encode()


def accepted(raw: bytes) -> Ping:
    result = decode(raw)
    assert isinstance(result, Ping), result
    return result


def refused(raw: bytes | None) -> Rejected:
    result = decode(raw)
    assert isinstance(result, Rejected), result
    return result


def test_the_example_of_the_contract() -> None:
    assert accepted(FULL.encode()) == Ping(
        machine_id="ZE215-000017",  # type: ignore[arg-type]
        recorded_at=datetime(2026, 11, 22, 4, 20, 31, tzinfo=UTC),
        hour_meter_ch=24990,  # type: ignore[arg-type]
        position=Position(28.228, 112.939, 61.0, 0.0, 270.0),
        faults=(Fault(110, 0, 3, 0, Lamp.RED_STOP),),
        sensors=Sensors(88.5, 310.0, 41.0, 27.6),
        engine_running=True,
        device_id="868120241234567",
        sequence=81234,
    )


@pytest.mark.parametrize(
    ("text", "hour_meter_ch"),
    [
        ("0", 0),
        ("249.99", 24999),
        ("249.999", 24999),
        ("249.99999999999999999999999999999999", 24999),
        ("250", 25000),
        ("250.00", 25000),
        ("250.0", 25000),
        ("0.29", 29),
        ("2.5e2", 25000),
        ("25000E-2", 25000),
        ("-0", 0),
        ("-0.0", 0),
        ("0e999", 0),
        ("1e-400", 0),
        ("199999.99", 19999999),
        ("200000", 20000000),
        ("200000.000", 20000000),
        (" 250 ", 25000),
    ],
)
def test_hours_are_cut_to_whole_hundredths(text: str, hour_meter_ch: int) -> None:
    assert accepted(ping_with(f'"hour_meter_h":{text}')).hour_meter_ch == hour_meter_ch


INVALID = {
    "hours_as_text": '"hour_meter_h":"249.9"',
    "hours_as_object": '"hour_meter_h":{"h":1}',
    "hours_true": '"hour_meter_h":true',
    "hours_below": '"hour_meter_h":-0.001',
    "hours_just_below": '"hour_meter_h":-1e-400',
    "hours_above": '"hour_meter_h":200000.0000000000000000000001',
    "hours_1e999": '"hour_meter_h":1e999',
    "unknown_field_1e999": '"hour_meter_h":1,"fuel_card":1e999',
    "unknown_field_lone_surrogate": r'"hour_meter_h":1,"driver":"\ud800"',
    "spn_above": '"faults":[{"spn":524288,"fmi":0}]',
    "spn_with_fraction": '"faults":[{"spn":110.0,"fmi":0}]',
    "spn_with_exponent": '"faults":[{"spn":11e1,"fmi":0}]',
    "spn_null": '"faults":[{"spn":null,"fmi":0}]',
    "fmi_above": '"faults":[{"spn":110,"fmi":32}]',
    "fmi_missing": '"faults":[{"spn":110}]',
    "count_above": '"faults":[{"spn":110,"fmi":0,"occurrence_count":128}]',
    "address_above": '"faults":[{"spn":110,"fmi":0,"source_address":256}]',
    "lamp_unknown": '"faults":[{"spn":110,"fmi":0,"lamp":"blue"}]',
    "65_faults": '"faults":[' + ",".join(['{"spn":110,"fmi":0}'] * 65) + "]",
    "faults_null_inside": '"faults":[null]',
    "position_without_longitude": '"position":{"latitude_deg":28.2}',
    "position_only_speed": '"position":{"speed_kmh":5}',
    "latitude_above": '"position":{"latitude_deg":90.001,"longitude_deg":0}',
    "speed_above": '"position":{"latitude_deg":1,"longitude_deg":0,"speed_kmh":300.1}',
    "coolant_below": '"sensors":{"coolant_temperature_c":-60.01}',
    "oil_above": '"sensors":{"oil_pressure_kpa":2000.1}',
    "fuel_text": '"sensors":{"fuel_level_pct":"41"}',
    "engine_number": '"engine_running":1',
    "device_id_nul": r'"hour_meter_h":1,"device_id":"a\u0000b"',
    "device_id_empty": '"hour_meter_h":1,"device_id":""',
    "sequence_above": '"hour_meter_h":1,"sequence":9223372036854775808',
    "sequence_fraction": '"hour_meter_h":1,"sequence":1.0',
    "sequence_below": '"hour_meter_h":1,"sequence":-1',
    "nothing_reported": '"device_id":"868120241234567"',
    "empty_position_only": '"position":{}',
    "empty_sensors_only": '"sensors":{"oil_pressure_kpa":null,"mood":3}',
    "duplicate_last_counts": '"hour_meter_h":1,"hour_meter_h":"x"',
}


@pytest.mark.parametrize("fields", INVALID.values(), ids=INVALID.keys())
def test_invalid(fields: str) -> None:
    assert refused(ping_with(fields)).error_class is ErrorClass.INVALID


MALFORMED = {
    "no_value": None,
    "empty": b"",
    "not_json": b"hello",
    "nan": ping_with('"hour_meter_h":NaN'),
    "nan_in_unknown_field": ping_with('"hour_meter_h":1,"x":NaN'),
    "infinity": ping_with('"hour_meter_h":1,"x":-Infinity'),
    "byte_order_mark": b"\xef\xbb\xbf" + ping_with('"hour_meter_h":1'),
    "bad_utf8_in_unknown_field": ping_with('"hour_meter_h":1,"driver":"\\')[:-2] + b'\xff"}',
    "bad_utf8_in_unknown_key": b"{" + HEAD.encode() + b',"hour_meter_h":1,"\xc3":1}',
    "nul_byte_behind": ping_with('"hour_meter_h":1') + b"\x00",
    "control_character": ping_with('"hour_meter_h":1,"driver":"a\tb"'),
    "trailing_comma": ping_with('"hour_meter_h":1,'),
    "leading_zero": ping_with('"hour_meter_h":01'),
    "65_levels": ping_with('"hour_meter_h":1,"x":' + "[" * 64 + "]" * 64),
    "10000_levels": ping_with('"hour_meter_h":1,"x":' + "[" * 10_000 + "]" * 10_000),
    "10000_levels_open": b"[" * 10_000,
    "two_documents": b"{}{}",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(raw: bytes | None) -> None:
    assert refused(raw).error_class is ErrorClass.MALFORMED


@pytest.mark.parametrize("raw", [b"[]", b"1", b"null", b'"x"', b"{}", b'{"machine_id":"a"}'])
def test_json_that_is_no_ping_is_invalid(raw: bytes) -> None:
    assert refused(raw).error_class is ErrorClass.INVALID


def test_too_large_comes_before_malformed() -> None:
    assert refused(b"[" * (64 * 1024 + 1)).error_class is ErrorClass.TOO_LARGE
    assert refused(b"[" * (64 * 1024)).error_class is ErrorClass.MALFORMED


def test_64_levels_are_taken() -> None:
    assert accepted(ping_with('"hour_meter_h":1,"x":' + "[" * 63 + '"]["' + "]" * 63)).hour_meter_ch == 100


@pytest.mark.parametrize(
    "fields",
    [
        '"hour_meter_h":1,"shift":{"driver":"王","n":[1,2.5e3]}',
        '"hour_meter_h":"x","hour_meter_h":1',
        '"hour_meter_h":1,"position":null,"faults":null,"sensors":null,"engine_running":null,"sequence":null',
        '"hour_meter_h":1,"position":{},"sensors":{"mood":"good"}',
        '"hour_meter_h":1,"position":{"latitude_deg":null,"longitude_deg":null,"accuracy_m":3}',
        '"hour_meter_h":1,"driver":"a\\u0000b"',
    ],
)
def test_what_we_do_not_know_is_ignored(fields: str) -> None:
    assert accepted(ping_with(fields)) == accepted(ping_with('"hour_meter_h":1'))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T04:20:31Z", datetime(2026, 11, 22, 4, 20, 31, tzinfo=UTC)),
        ("2026-11-22t04:20:31.1239999z", datetime(2026, 11, 22, 4, 20, 31, 123000, tzinfo=UTC)),
        ("2026-11-22T12:20:31.5+08:00", datetime(2026, 11, 22, 4, 20, 31, 500000, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("1999-12-31T20:00:00-04:00", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2099-12-31T23:59:59.9999Z", datetime(2099, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
    ],
)
def test_recorded_at_is_an_instant_cut_to_milliseconds(text: str, moment: datetime) -> None:
    raw = f'{{"machine_id":"ZE215-000017","recorded_at":"{text}","engine_running":false}}'
    assert accepted(raw.encode()).recorded_at == moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T04:20:31",
        "2026-11-22 04:20:31Z",
        "2026-11-22T04:20:60Z",
        "2026-11-22T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-22T04:20Z",
        "20261122T042031Z",
        "2026-11-22T04:20:31.Z",
        "2026-11-22T04:20:31+0800",
        "2026-11-22T04:20:31+24:00",
        "1999-12-31T23:59:59.999Z",
        "2000-01-01T00:00:00+08:00",
        "2100-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "2026-11-22T04:20:31Z\\n",
        "\uff12\uff1026-11-22T04:20:31Z",
        "",
    ],
)
def test_a_time_that_is_none_is_invalid(text: str) -> None:
    raw = f'{{"machine_id":"ZE215-000017","recorded_at":"{text}","engine_running":false}}'
    assert refused(raw.encode()).error_class is ErrorClass.INVALID


@pytest.mark.parametrize("machine_id", ["", "x" * 65, "a b", "ZE/1", "挖", "a\\u0000"])
def test_a_machine_id_outside_the_alphabet_is_invalid(machine_id: str) -> None:
    raw = f'{{"machine_id":"{machine_id}","recorded_at":"2026-11-22T04:20:31Z","engine_running":false}}'
    assert refused(raw.encode()).error_class is ErrorClass.INVALID


def test_the_message_of_a_refusal_is_one_printable_line() -> None:
    for fields in INVALID.values():
        message = refused(ping_with(fields)).message
        assert message
        assert message.isprintable()
        assert "868120241234567" not in message


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('"hour_meter_h":249,"sequence":7', '"hour_meter_h":250,"sequence":7', True),
        ('"hour_meter_h":249,"sequence":7', '"hour_meter_h":249,"sequence":8', False),
        ('"hour_meter_h":249,"sequence":7', '"hour_meter_h":249', False),
        ('"hour_meter_h":249.0', '"hour_meter_h":249.009,"unknown":1', True),
        ('"hour_meter_h":249.00', '"hour_meter_h":249.01', False),
        ('"faults":[{"spn":110,"fmi":0}]', '"faults":[{"fmi":0,"spn":110,"occurrence_count":1,"lamp":null}]', True),
        ('"sensors":{"battery_v":0.0}', '"sensors":{"battery_v":-0.0}', True),
    ],
)
def test_the_same_ping(one: str, other: str, *, same: bool) -> None:
    numbers = {dedupe_number(accepted(ping_with(fields))) for fields in (one, other)}
    assert (len(numbers) == 1) is same


def test_future_is_more_than_five_minutes_ahead() -> None:
    received_at = datetime(2026, 11, 22, 4, 20, 31, tzinfo=UTC)
    assert not is_future(received_at + timedelta(minutes=5), received_at)
    assert is_future(received_at + timedelta(minutes=5, milliseconds=1), received_at)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(
            [
                "machine_id",
                "recorded_at",
                "hour_meter_h",
                "position",
                "faults",
                "sensors",
                "engine_running",
                "sequence",
                "x",
            ]
        ),
        json_values,
    ).map(lambda value: json.dumps(value).encode())
)
def test_decode_never_raises(raw: bytes) -> None:
    assert isinstance(decode(raw), Ping | Rejected)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["hour_meter_h", "sequence"]))
def test_numbers_are_in_range_or_refused(value: float, field: str) -> None:
    result: Any = decode(ping_with(f'"engine_running":true,"{field}":{value!r}'))
    if field == "hour_meter_h" and 0 <= value <= 200_000:
        assert result.hour_meter_ch == int(result.hour_meter_ch)
    else:
        assert result.error_class is ErrorClass.INVALID
