"""HTTP for people and systems: the registry, alerts, and commands that leave through the outbox. Knows no Kafka."""

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api import alerts, dead_letters, machine_commands, machine_pings, machines, why
from telemetry_svc.api.alerts import StreamSettings
from telemetry_svc.api.registration import ContactsChanged, Desk, time_zones
from telemetry_svc.rules import Policy
from telemetry_svc.telemetry import EditionId

__all__ = ["ContactsChanged", "Desk", "StreamSettings", "create_router", "time_zones"]


def create_router(
    *,
    engine: AsyncEngine,
    desk: Desk,
    policies: Mapping[EditionId, Policy],
    streams: StreamSettings | None = None,
    stopping: asyncio.Event | None = None,
) -> APIRouter:
    """The routes of role `api` save those of the call queue (`api.calls`). Open streams end when `stopping` is set."""
    router = APIRouter()
    router.include_router(machines.create_router(engine, desk))
    router.include_router(machine_pings.create_router(engine, desk.clock))
    router.include_router(machine_commands.create_router(engine, desk.clock, policies))
    router.include_router(alerts.create_router(engine, streams or StreamSettings(), stopping or asyncio.Event()))
    router.include_router(why.create_router(engine, policies))
    router.include_router(dead_letters.create_router(engine))
    return router
