"""A body is cut into exactly the bytes of each ping."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.gateway.splitting import NotAnArrayError, NotJsonError, split_array, split_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(VALUES, max_size=8), st.sampled_from([None, 1]), st.booleans())
def test_the_elements_of_any_array_come_out_whole(values: list[object], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        with pytest.raises(NotJsonError):
            split_array(body)
        return
    assert [json.loads(element) for element in split_array(body)] == values


@given(st.lists(st.binary(min_size=1).filter(lambda raw: raw.strip(b" \t\r\n") != b"" and b"\n" not in raw)))
def test_lines_are_taken_as_they_are(lines: list[bytes]) -> None:
    assert split_lines(b"\n\r\n".join(lines) + b"\n") == [line.strip(b" \t\r\n") for line in lines]


@pytest.mark.parametrize(
    ("body", "elements"),
    [
        pytest.param(b"[]", [], id="none"),
        pytest.param(b" [ ] \n", [], id="none, with blanks"),
        pytest.param(b'[{"a":[1,2]},{"b":"],["}]', [b'{"a":[1,2]}', b'{"b":"],["}'], id="brackets in a string"),
        pytest.param(b'["\\"],[", 1]', [b'"\\"],["', b"1"], id="an escaped quote"),
        pytest.param(b'["\\\\", 1]', [b'"\\\\"', b"1"], id="an escaped backslash"),
        pytest.param(b'["\\ud800",1]', [b'"\\ud800"', b"1"], id="half of a surrogate pair is for the decoder"),
        pytest.param(b"[NaN,1]", [b"NaN", b"1"], id="what is no JSON is for the decoder"),
        pytest.param(b"[" + b"[" * 10_000 + b"]" * 10_000 + b",1]", [b"[" * 10_000 + b"]" * 10_000, b"1"], id="deep"),
    ],
)
def test_arrays(body: bytes, elements: list[bytes]) -> None:
    assert split_array(body) == elements


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[", id="open"),
        pytest.param(b"[1", id="cut"),
        pytest.param(b"[1]]", id="closed twice"),
        pytest.param(b"[1] 2", id="something after it"),
        pytest.param(b"[1,]", id="comma at the end"),
        pytest.param(b"[,1]", id="comma at the start"),
        pytest.param(b"[1,,2]", id="two commas"),
        pytest.param(b"[1}", id="another bracket closes it"),
        pytest.param(b'["\xff"]', id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf[]", id="byte order mark"),
        pytest.param(b"{", id="no array, and no JSON"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"{" * 3_000, id="deep and no JSON"),
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises((NotJsonError, NotAnArrayError)) as caught:
        split_array(body)
    assert caught.type is NotJsonError or body == b"{" * 3_000


@pytest.mark.parametrize("body", [b'{"machine_id":"A"}', b'"text"', b"1", b"null", b'{"a":1e999}'])
def test_json_that_is_no_array(body: bytes) -> None:
    with pytest.raises(NotAnArrayError):
        split_array(body)
