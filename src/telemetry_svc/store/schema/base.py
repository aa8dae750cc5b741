"""What all tables share: one metadata with named constraints, and the column types the dialect does not bring."""

from typing import Any

from sqlalchemy import DateTime, MetaData
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

UtcDateTime = DateTime(timezone=True)
"""Every instant in the database: timestamptz, aware in Python."""


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id: `(xid, n)` orders rows so that no late commit is skipped (decision 17)."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


ischema_names.setdefault("xid8", Xid8)


def belongs_to_schema(name: str | None, kind: str, _parents: object) -> bool:
    """False for what is made at run time: the weekly partitions of `ping` (`store.history.make_weeks`)."""
    return not (kind == "table" and name is not None and name.startswith("ping_") and name != "ping_outlier")
