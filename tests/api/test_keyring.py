"""What is sealed opens with its key, for its row, unchanged, and in no other case."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.privacy import BadKeyringError, CannotOpenError, Keyring, Sealed, SealKeyId, new_keyring_text

KEY, OTHER, INDEX = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
RING = Keyring.parse(f"k1:{KEY}\nindex:{INDEX}\n")


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_what_was_sealed_opens(clear: bytes, bound_to: bytes) -> None:
    sealed = RING.seal(clear, bound_to)
    assert RING.open(sealed, bound_to) == clear
    assert len(clear) < 8 or clear not in sealed.box
    assert RING.seal(clear, bound_to).box != sealed.box


@given(st.integers(min_value=0, max_value=12 + 11 + 16 - 1), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_opens_nothing(place: int, change: int) -> None:
    sealed = RING.seal(b"13800000000", b"A|0")
    box = bytearray(sealed.box)
    box[place] ^= change
    with pytest.raises(CannotOpenError):
        RING.open(Sealed(sealed.key_id, bytes(box)), b"A|0")


@pytest.mark.parametrize("bound_to", [b"A|1", b"B|0", b""])
def test_a_box_in_another_row_opens_nothing(bound_to: bytes) -> None:
    with pytest.raises(CannotOpenError):
        RING.open(RING.seal(b"13800000000", b"A|0"), bound_to)


def test_a_cut_box_opens_nothing() -> None:
    with pytest.raises(CannotOpenError):
        RING.open(Sealed(SealKeyId("k1"), b"short"), b"A|0")


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old = RING.seal(b"13800000000", b"A|0")
    ring = Keyring.parse(f"k2:{OTHER},k1:{KEY},index:{INDEX}")
    assert ring.open(old, b"A|0") == b"13800000000"
    assert ring.seal(b"x", b"").key_id == "k2"
    assert ring.blind_index("+8613800000000") == RING.blind_index("+8613800000000")
    with pytest.raises(CannotOpenError, match="not in the keyring"):
        RING.open(ring.seal(b"x", b""), b"")


def test_the_blind_index_depends_on_the_value_and_on_the_key() -> None:
    assert RING.blind_index("+8613800000000") != RING.blind_index("+8613800000001")
    other = Keyring.parse(f"k1:{KEY},index:{OTHER}")
    assert other.blind_index("+8613800000000") != RING.blind_index("+8613800000000")


def test_a_new_ring_is_another_one_each_time() -> None:
    assert new_keyring_text() != new_keyring_text()
    ring = Keyring.parse(new_keyring_text())
    assert ring.open(ring.seal(b"x", b""), b"") == b"x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "no entry named index", id="empty"),
        pytest.param(f"k1:{KEY}", "no entry named index", id="no index key"),
        pytest.param(f"index:{KEY}", "no key to seal with", id="only the index key"),
        pytest.param(f"k1:{KEY}\nindex:{INDEX[:-8]}", "entry 2", id="too short"),
        pytest.param(f"k1:{KEY}!\nindex:{INDEX}", "entry 1", id="no base64"),
        pytest.param(f"{KEY}\nindex:{INDEX}", "entry 1", id="no id"),
    ],
)
def test_a_bad_ring_is_refused_and_not_repeated(text: str, message: str) -> None:
    with pytest.raises(BadKeyringError, match=message) as caught:
        Keyring.parse(text)
    assert KEY not in str(caught.value)
