"""Who leads: one row that is taken for some seconds, under a term that grows whenever it is taken anew (decision 14).

A write of the leader begins with `hold`: it looks at the term, and keeps the row from changing hands until the write's
transaction has ended. So two that both believe to lead never both write; PostgreSQL's clock alone is the judge.
"""

from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class Lease(Struct, frozen=True):
    """The right to lead, as long as nobody has taken it after us. `name`: what is led."""

    name: str
    holder: UUID
    term: int


class LeaseLostError(Exception):
    """Somebody else leads by now, or nobody. Nothing of the transaction may be kept."""


_FIRST = text(
    """
    INSERT INTO schedule_lease (name, holder, term, expires_at)
    VALUES (:name, :holder, 0, '-infinity') ON CONFLICT DO NOTHING
    """
)
_RENEW = text(
    """
    UPDATE schedule_lease SET expires_at = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE name = :name AND holder = :holder AND term = :term AND expires_at > clock_timestamp()
    """
)
_TAKE = text(
    """
    UPDATE schedule_lease SET holder = :holder, term = term + 1,
           expires_at = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE name = :name AND (expires_at <= clock_timestamp() OR holder = :holder)
    RETURNING term
    """
)
_HOLD = text(
    """
    SELECT term FROM schedule_lease
    WHERE name = :name AND holder = :holder AND term = :term AND expires_at > clock_timestamp() FOR SHARE
    """
)
_RELEASE = text(
    "UPDATE schedule_lease SET expires_at = '-infinity' WHERE name = :name AND holder = :holder AND term = :term"
)


async def take(connection: AsyncConnection, name: str, holder: UUID, lease_s: float) -> Lease | None:
    """The lease under a new term, for `lease_s` seconds; None while somebody else holds it."""
    await connection.execute(_FIRST, {"name": name, "holder": holder})
    row = (await connection.execute(_TAKE, {"name": name, "holder": holder, "lease_s": lease_s})).first()
    return None if row is None else Lease(name, holder, row[0])


async def renew(connection: AsyncConnection, lease: Lease, lease_s: float) -> bool:
    """Lets a lease that has not run out go on for `lease_s` seconds from now; False where it has."""
    result = await connection.execute(_RENEW, _values(lease) | {"lease_s": lease_s})
    return result.rowcount == 1


async def hold(connection: AsyncConnection, lease: Lease) -> None:
    """The first statement of every write of the leader. Raises `LeaseLostError`."""
    if (await connection.execute(_HOLD, _values(lease))).first() is None:
        raise LeaseLostError(f"term {lease.term} of {lease.name} is over")


async def release(connection: AsyncConnection, lease: Lease) -> None:
    """Gives the lease up, so that the next one need not wait."""
    await connection.execute(_RELEASE, _values(lease))


def _values(lease: Lease) -> dict[str, object]:
    return {"name": lease.name, "holder": lease.holder, "term": lease.term}
