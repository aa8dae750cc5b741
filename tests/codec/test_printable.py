"""Whatever bytes a stranger sends, the line that shows them is printable and tells them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.codec.printable import printable_line

SHOWN = {
    "plain": (b'{"machine_id": "ZE215"}', '{"machine_id": "ZE215"}'),
    "chinese": ("泵压力".encode(), "泵压力"),
    "crlf": (b"a\r\nb", r"a\r\nb"),
    "ansi": (b"\x1b[2J", r"\x1b[2J"),
    "c1": (b"\xc2\x9b31m", r"\u009b31m"),
    "not_utf8": (b"\xff\xc3", r"\xff\xc3"),
    "right_to_left": ("\u202eabc".encode(), r"\u202eabc"),
    "beyond_the_plane": ("\U000e0001".encode(), r"\U000e0001"),
    "backslash": (rb"\n", r"\\n"),
    "nul": (b"\0", r"\x00"),
}


@pytest.mark.parametrize(("raw", "line"), SHOWN.values(), ids=SHOWN)
def test_what_is_shown(raw: bytes, line: str) -> None:
    assert printable_line(raw) == line


@given(raw=st.binary(max_size=60))
def test_a_line_is_printable(raw: bytes) -> None:
    assert printable_line(raw).isprintable()


@given(raw=st.binary(max_size=8), other=st.binary(max_size=8))
def test_different_bytes_are_different_lines(raw: bytes, other: bytes) -> None:
    assert (printable_line(raw) == printable_line(other)) == (raw == other)


def test_no_more_than_asked_for() -> None:
    assert printable_line(b"abcdef", 3) == "abc"
