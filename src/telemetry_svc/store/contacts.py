"""Whom to call about a machine: the only SQL that touches personal data.

Every row is sealed by itself and bound to its machine and place. Opening for somebody's eyes leaves a line in
`personal_access`; `load_for_change` opens for nobody's eyes, to lay a registration's fields over what is stored.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.privacy import CannotOpenError, Keyring, Sealed, SealKeyId
from telemetry_svc.store.schema.registry import contact, personal_access
from telemetry_svc.telemetry import MachineId

log = structlog.get_logger(__name__)

CUSTOMER = 0
"""Ordinal of the customer himself; the other contacts follow from 1."""


class Contact(Struct, frozen=True):
    """One person. `phone` is E.164. Personal data: its repr shows nothing."""

    name: str | None = None
    phone: str | None = None
    role: str | None = None
    language: str | None = None

    def __repr__(self) -> str:
        return "Contact(…)"


Contacts = Mapping[int, Contact]
"""The contacts of one machine by ordinal: the order in which they are called."""


class ForChange(Struct, frozen=True):
    """What is stored, and the machines of which something does not open: nothing can be laid over that."""

    opened: Mapping[MachineId, Contacts]
    closed: Set[MachineId]


class Reader(Struct, frozen=True):
    """Who reads personal data and why, for the audit; neither may hold personal data itself."""

    who: str
    why: str


async def replace(connection: AsyncConnection, keyring: Keyring, contacts: Mapping[MachineId, Contacts]) -> None:
    """Puts these in the place of all that these machines had."""
    await connection.execute(delete(contact).where(contact.c.machine_id.in_(contacts)))
    rows = [
        _row(keyring, machine_id, ordinal, person)
        for machine_id, people in contacts.items()
        for ordinal, person in people.items()
    ]
    if rows:
        await connection.execute(contact.insert(), rows)


async def open_for(
    connection: AsyncConnection, keyring: Keyring, machine_ids: Sequence[MachineId], reader: Reader
) -> dict[MachineId, list[Contact]]:
    """The contacts of these machines in calling order, and one line of audit for each machine that has any.

    A contact that does not open (another keyring than the one that sealed it) is left out and logged: it must not stop
    the calls of all the others.
    """
    opened: dict[MachineId, dict[int, Contact]] = {}
    for row in await connection.execute(select(contact).where(contact.c.machine_id.in_(machine_ids))):
        try:
            opened.setdefault(MachineId(row.machine_id), {})[row.ordinal] = _open(keyring, row)
        except CannotOpenError as error:
            log.warning("a contact does not open", machine_id=row.machine_id, ordinal=row.ordinal, reason=str(error))
    lines = [{"who": reader.who, "why": reader.why, "machine_id": machine_id} for machine_id in opened]
    if lines:
        await connection.execute(personal_access.insert(), lines)
    return {machine_id: [people[ordinal] for ordinal in sorted(people)] for machine_id, people in opened.items()}


async def load_for_change(connection: AsyncConnection, keyring: Keyring, machine_ids: Sequence[MachineId]) -> ForChange:
    """The contacts of these machines by ordinal, for a change and for nobody's eyes: no audit."""
    rows = await connection.execute(select(contact).where(contact.c.machine_id.in_(machine_ids)))
    opened: dict[MachineId, dict[int, Contact]] = {}
    closed: set[MachineId] = set()
    for row in rows:
        try:
            opened.setdefault(MachineId(row.machine_id), {})[row.ordinal] = _open(keyring, row)
        except CannotOpenError:
            closed.add(MachineId(row.machine_id))
    return ForChange({machine_id: people for machine_id, people in opened.items() if machine_id not in closed}, closed)


async def any_sealed(connection: AsyncConnection) -> bool:
    """True where there is a contact at all."""
    return (await connection.execute(select(contact.c.machine_id).limit(1))).first() is not None


async def callable_machines(connection: AsyncConnection, machine_ids: Sequence[MachineId]) -> frozenset[MachineId]:
    """Those of these machines that have a contact with a phone number. Opens nothing."""
    query = select(contact.c.machine_id).where(
        contact.c.machine_id.in_(machine_ids), contact.c.phone_index.is_not(None)
    )
    return frozenset(MachineId(machine_id) for machine_id in await connection.scalars(query.distinct()))


def _bound_to(machine_id: str, ordinal: int) -> bytes:
    return f"{machine_id}|{ordinal}".encode()


def _row(keyring: Keyring, machine_id: MachineId, ordinal: int, person: Contact) -> dict[str, Any]:
    sealed = keyring.seal(msgspec.json.encode(person), _bound_to(machine_id, ordinal))
    return {
        "machine_id": machine_id,
        "ordinal": ordinal,
        "key_id": sealed.key_id,
        "sealed": sealed.box,
        "phone_index": None if person.phone is None else keyring.blind_index(person.phone),
    }


def _open(keyring: Keyring, row: Any) -> Contact:
    sealed = Sealed(SealKeyId(row.key_id), row.sealed)
    return msgspec.json.decode(keyring.open(sealed, _bound_to(row.machine_id, row.ordinal)), type=Contact)
