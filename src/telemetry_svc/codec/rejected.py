"""The named outcome of a record that is no good: one dead letter, or one verdict over HTTP."""

from enum import StrEnum

from msgspec import Struct

MESSAGE_LIMIT = 400


class ErrorClass(StrEnum):
    """`x-error-class` (contract.md, Ping v1), in the order in which they are checked; `internal` is our own fault."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    INVALID = "invalid"
    KEY_MISMATCH = "key_mismatch"
    UNKNOWN_MACHINE = "unknown_machine"
    WRONG_PARTITION = "wrong_partition"
    INTERNAL = "internal"


class Rejected(Struct, frozen=True):
    """Why a record was refused. `message` names the field, is one printable line and holds no value of the record."""

    error_class: ErrorClass
    message: str


def rejected(error_class: ErrorClass, message: str) -> Rejected:
    """A `Rejected` whose message is safe to log and to put into a header: one line, printable ASCII, bounded."""
    printable = "".join(char if " " <= char <= "~" else "?" for char in message[:MESSAGE_LIMIT])
    return Rejected(error_class, printable)
