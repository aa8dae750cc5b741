"""A key ring in memory, a clock that stands, and an app around routes of a test's own."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from telemetry_svc.store.keys import KeyRecord, Role
from telemetry_svc.telemetry import MachineId
from telemetry_svc.web import ACCESS, Access, Authenticator, Health, Limits, create_app

NOON = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)


class StillClock:
    """Stands until it is moved."""

    def __init__(self, moment: datetime = NOON) -> None:
        self.moment = moment
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


class KeysInMemory:
    """Stands for the table of keys; counts how often it is asked."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}
        self.asked = 0

    async def find(self, key_id: str) -> KeyRecord | None:
        self.asked += 1
        return self.records.get(key_id)

    def add(self, role: Role, machine_ids: Sequence[str] | None = None, *, expert_id: str | None = None) -> str:
        """A good key as text; `machine_ids` None = all machines."""
        number = len(self.records) + 1
        key_id, secret = f"{number:016x}", f"{number:043d}"
        bound = None if machine_ids is None else frozenset(map(MachineId, machine_ids))
        digest = hashlib.sha256(secret.encode()).digest()
        self.records[key_id] = KeyRecord(key_id, role, bound, expert_id, NOON, None, digest)
        return f"tsk_{key_id}_{secret}"


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key}"}


def app_of(
    routers: Sequence[APIRouter] = (),
    *,
    keys: KeysInMemory | None = None,
    health: Health | None = None,
    limits: Limits | None = None,
    more_access: Sequence[Access] = (),
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """An app with the real matrix and whatever a test adds to it."""
    return create_app(
        routers=routers,
        authenticator=Authenticator((keys or KeysInMemory()).find, StillClock()),
        health=health or Health(live={}, ready={}),
        registry=registry or CollectorRegistry(),
        version="0",
        limits=limits,
        matrix=(*ACCESS, *more_access),
    )


@asynccontextmanager
async def client_of(app: FastAPI, *, host: str = "203.0.113.7") -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls from `host`; an error of the app reaches it as an answer."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(host, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://telemetry.test") as client:
        yield client
