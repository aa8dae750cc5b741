"""Names and phone numbers are unreadable without a key that the database does not hold.

design.md, decision 19: personal data lie in one table, sealed with AES-GCM from the first migration. A sealed box is
bound to the row it belongs to, so that a box copied to another machine does not open there. Equal phone numbers are
found by a blind index (an HMAC), which tells that two are the same and nothing else.

Keys have ids, so that a new one can seal while the old ones still open; the index key stays when they are changed.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

SealKeyId = NewType("SealKeyId", str)

KEY_BYTES = 32
NONCE_BYTES = 12
INDEX_ID = "index"


class Sealed(Struct, frozen=True):
    """What the database holds: the key's id, and the nonce followed by the ciphertext with its tag."""

    key_id: SealKeyId
    box: bytes


class BadKeyringError(ValueError):
    """The keyring text is no good. The message says where and holds no key."""


class CannotOpenError(Exception):
    """A box does not open: its key is not in the ring, or it was changed, or it belongs to another row."""


class Keyring:
    """The keys of one installation. All keys are 32 bytes; `current` seals, every one opens."""

    def __init__(self, keys: Mapping[SealKeyId, bytes], current: SealKeyId, index_key: bytes) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = current
        self._index_key = index_key

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """A ring from lines (or comma-separated parts) `ID:BASE64`: the first one seals; one is named `index`.

        Raises `BadKeyringError`.
        """
        keys = dict(_entry(number, part) for number, part in enumerate(_parts(text), start=1))
        index_key = keys.pop(SealKeyId(INDEX_ID), None)
        if index_key is None:
            raise BadKeyringError(f"the keyring has no entry named {INDEX_ID}")
        if not keys:
            raise BadKeyringError("the keyring has no key to seal with")
        return cls(keys, next(iter(keys)), index_key)

    def seal(self, clear: bytes, bound_to: bytes) -> Sealed:
        """`clear` sealed with the current key; it opens only together with the same `bound_to`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Sealed(self._current, nonce + self._ciphers[self._current].encrypt(nonce, clear, bound_to))

    def open(self, sealed: Sealed, bound_to: bytes) -> bytes:
        """What was sealed. Raises `CannotOpenError`."""
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise CannotOpenError("the key that sealed this is not in the keyring")
        try:
            return cipher.decrypt(sealed.box[:NONCE_BYTES], sealed.box[NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise CannotOpenError("the box was changed, or belongs to another row") from None

    def blind_index(self, value: str) -> bytes:
        """32 bytes that are equal for equal values and tell nothing else. Source: HMAC-SHA-256."""
        return hmac.digest(self._index_key, value.encode(), hashlib.sha256)


def new_keyring_text() -> str:
    """A fresh ring for `Keyring.parse`, as `up` writes it into its data directory on the first start."""
    return "".join(
        f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n" for key_id in ("k1", INDEX_ID)
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]


def _entry(number: int, part: str) -> tuple[SealKeyId, bytes]:
    key_id, separator, encoded = part.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if not separator or not key_id or len(key) != KEY_BYTES:
        raise BadKeyringError(f"entry {number} of the keyring is not ID:BASE64 of {KEY_BYTES} bytes")
    return SealKeyId(key_id), key
