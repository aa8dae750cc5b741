"""Who is asking: `Authorization: Bearer tsk_<id>_<secret>`.

A good key is remembered for a few seconds, so that a busy device does not cost a query per request and a revoked one
is out soon. Only keys that exist are remembered: guesses cannot fill the memory.
"""

import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.clock import Clock
from telemetry_svc.store import keys
from telemetry_svc.store.keys import KeyRecord, Role, split_key
from telemetry_svc.telemetry import MachineId
from telemetry_svc.web.problems import Problem

REMEMBERED_S = 3.0
REMEMBERED_KEYS = 10_000

FindKey = Callable[[str], Awaitable[KeyRecord | None]]


class Principal(Struct, frozen=True):
    """Who asks. `machine_ids` None = all machines; `expert_id` = speaks for this expert and no other."""

    key_id: str
    role: Role
    machine_ids: frozenset[MachineId] | None = None
    expert_id: str | None = None

    @property
    def name(self) -> str:
        """For logs and audits: role and key id, never the secret."""
        return f"{self.role}:{self.key_id}"

    def may_speak_for(self, machine_id: MachineId) -> bool:
        return self.machine_ids is None or machine_id in self.machine_ids


class Authenticator:
    """Tells who asks, or raises a 401 `Problem` that does not say why."""

    def __init__(self, find: FindKey, clock: Clock) -> None:
        self._find = find
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, KeyRecord]] = OrderedDict()

    @classmethod
    def on(cls, engine: AsyncEngine, clock: Clock) -> "Authenticator":
        """With the keys of a database."""

        async def find(key_id: str) -> KeyRecord | None:
            async with engine.connect() as connection:
                return await keys.find(connection, key_id)

        return cls(find, clock)

    async def principal(self, authorization: str | None) -> Principal:
        """The bearer of an `Authorization` header. Raises `Problem` 401."""
        scheme, _, text = (authorization or "").partition(" ")
        parts = split_key(text.strip()) if scheme.lower() == "bearer" else None
        if parts is None:
            raise _unknown()
        key_id, secret_sha256 = parts
        record = await self._record(key_id)
        if record is None or not hmac.compare_digest(record.secret_sha256, secret_sha256):
            raise _unknown()
        if record.revoked_at is not None:
            raise _unknown()
        return Principal(record.id, record.role, record.machine_ids, record.expert_id)

    async def _record(self, key_id: str) -> KeyRecord | None:
        now_s = self._clock.monotonic_s()
        remembered = self._remembered.get(key_id)
        if remembered is not None and now_s - remembered[0] < REMEMBERED_S:
            return remembered[1]
        record = await self._find(key_id)
        self._remember(key_id, record, now_s)
        return record

    def _remember(self, key_id: str, record: KeyRecord | None, now_s: float) -> None:
        self._remembered.pop(key_id, None)
        if record is not None:
            self._remembered[key_id] = (now_s, record)
        while len(self._remembered) > REMEMBERED_KEYS:
            self._remembered.popitem(last=False)


def _unknown() -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "a good key is needed: Authorization: Bearer tsk_…",
        headers={"WWW-Authenticate": "Bearer"},
    )


def principal_of(request: Request) -> Principal:
    """Who the guard let in. Only for routes that ask for a key."""
    principal: Principal = request.state.principal
    return principal


CurrentPrincipal = Annotated[Principal, Depends(principal_of)]
