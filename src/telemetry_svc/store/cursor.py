"""A place in a growing list that no late commit can slip behind.

design.md, decision 17: an id or a time as cursor skips rows whose transaction commits late. Rows carry the id of the
transaction that wrote them and a number; a page holds only rows below the oldest transaction still open, in that
order, so whatever commits later comes after every cursor handed out before.
"""

import base64
import binascii
import struct
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Column, ColumnElement, Select, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.base import Xid8

_WIRE = struct.Struct(">QQ")
_LARGEST = 2**63 - 1


class BadCursorError(ValueError):
    """The text is no cursor of ours."""


class Cursor(Struct, frozen=True, order=True):
    """After the row `n` of transaction `xid`. Opaque outside: see `text` and `parse`."""

    xid: int
    n: int

    @property
    def text(self) -> str:
        return base64.urlsafe_b64encode(_WIRE.pack(self.xid, self.n)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises `BadCursorError`."""
        try:
            cursor = cls(*_WIRE.unpack(base64.b64decode(text + "==", altchars=b"-_", validate=True)))
        except (binascii.Error, struct.error, ValueError):
            raise BadCursorError("this is no cursor of ours") from None
        if cursor.xid > _LARGEST or cursor.n > _LARGEST:
            raise BadCursorError("this is no cursor of ours")
        return cursor


START = Cursor(0, 0)


async def committed_end(connection: AsyncConnection) -> Cursor:
    """The end of what is committed for good: every row before it is visible, none will join them."""
    xmin = await connection.scalar(select(func.pg_snapshot_xmin(func.pg_current_snapshot(), type_=Xid8())))
    return Cursor(int(xmin or 0), 0)


def between(
    query: Select[Any], xid: Column[int], n: Column[int], after: Cursor, end: Cursor, limit: int
) -> Select[Any]:
    """`query` cut to at most `limit` rows after `after` and before `end`, in the order of their cursors."""
    # Cast: PostgreSQL compares an xid8 with an xid8 alone.
    later: ColumnElement[bool] = tuple_(xid, n) > tuple_(cast(after.xid, Xid8()), cast(after.n, BigInteger))
    return query.where(later, xid < cast(end.xid, Xid8())).order_by(xid, n).limit(limit)
