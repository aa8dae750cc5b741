"""API keys: who may knock, as what, and for which machines.

Only the sha256 of a key's secret is stored. The secret has 256 random bits, so a slow password hash would protect
nothing more and would cost every request.
"""

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.registry import api_key
from telemetry_svc.telemetry import MachineId

_TEXT = re.compile(r"tsk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)


class Role(StrEnum):
    """What a key may do: the table in contract.md (HTTP)."""

    DEVICE = "device"
    OPS = "ops"
    CALL_CENTER = "call_center"
    SUPERVISOR = "supervisor"
    ADMIN = "admin"


class KeyRecord(Struct, frozen=True):
    """One key without its secret. `machine_ids` is None where it speaks for all machines."""

    id: str
    role: Role
    machine_ids: frozenset[MachineId] | None
    expert_id: str | None
    created_at: datetime
    revoked_at: datetime | None
    secret_sha256: bytes


class KeyBinding(Struct, frozen=True):
    """What a new key is bound to. A device speaks for its machines or, said aloud, for all; nobody else is bound."""

    role: Role
    machine_ids: tuple[MachineId, ...] = ()
    all_machines: bool = False
    expert_id: str | None = None


class BadBindingError(ValueError):
    """A role with a binding that it cannot have; the message says which."""


def split_key(text: str) -> tuple[str, bytes] | None:
    """Key id and sha256 of the secret of `tsk_<id>_<secret>`; None where the text is no key at all."""
    match = _TEXT.fullmatch(text)
    return None if match is None else (match[1], hashlib.sha256(match[2].encode()).digest())


def check_binding(binding: KeyBinding) -> None:
    """Raises `BadBindingError`."""
    if binding.role is Role.DEVICE and bool(binding.machine_ids) == binding.all_machines:
        raise BadBindingError("a device key needs either its machines or --all-machines")
    if binding.role is not Role.DEVICE and (binding.machine_ids or binding.all_machines):
        raise BadBindingError(f"a key of role {binding.role} is not bound to machines")
    if binding.role in {Role.DEVICE, Role.OPS} and binding.expert_id is not None:
        raise BadBindingError(f"a key of role {binding.role} speaks for no expert")


async def create(connection: AsyncConnection, binding: KeyBinding) -> str:
    """A new key as text, to be shown once. Raises `BadBindingError`."""
    check_binding(binding)
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    await connection.execute(
        api_key.insert().values(
            id=key_id,
            secret_sha256=hashlib.sha256(secret.encode()).digest(),
            role=binding.role.value,
            all_machines=binding.role is not Role.DEVICE or binding.all_machines,
            machine_ids=sorted(set(binding.machine_ids)),
            expert_id=binding.expert_id,
        )
    )
    return f"tsk_{key_id}_{secret}"


async def find(connection: AsyncConnection, key_id: str) -> KeyRecord | None:
    """The key of that id, revoked or not."""
    row = (await connection.execute(select(api_key).where(api_key.c.id == key_id))).one_or_none()
    return None if row is None else _record(row)


async def list_all(connection: AsyncConnection, roles: Collection[Role] = tuple(Role)) -> list[KeyRecord]:
    """Every key of these roles, oldest first, the revoked ones too."""
    query = select(api_key).where(api_key.c.role.in_([role.value for role in roles]))
    rows = await connection.execute(query.order_by(api_key.c.created_at, api_key.c.id))
    return [_record(row) for row in rows]


async def revoke(connection: AsyncConnection, key_id: str) -> bool:
    """True where the key was good until now."""
    good = (api_key.c.id == key_id) & api_key.c.revoked_at.is_(None)
    result = await connection.execute(update(api_key).where(good).values(revoked_at=func.now()))
    return result.rowcount == 1


def _record(row: Any) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        role=Role(row.role),
        machine_ids=None if row.all_machines else frozenset(map(MachineId, row.machine_ids)),
        expert_id=row.expert_id,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        secret_sha256=row.secret_sha256,
    )
