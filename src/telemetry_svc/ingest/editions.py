"""Ingest does not begin while a machine's policy is missing: each of that machine's pings would be a dead letter.

A file left out of a deployment is mended in a minute; thousands of dead letters of our own making are not.
"""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.policies import PolicyError
from telemetry_svc.store.editions import bound_elsewhere
from telemetry_svc.telemetry import EditionId


class EditionNotLoaded(PolicyError):
    """Machines are bound to an edition whose file is not there. The text names it and how many they are."""


async def refuse_unloaded(engine: AsyncEngine, loaded: Collection[EditionId]) -> None:
    """Raises `EditionNotLoaded` where a registered machine is bound to none of these editions."""
    async with engine.connect() as connection:
        missing = await bound_elsewhere(connection, loaded)
    if missing:
        bound = " and ".join(f"{edition} (machines bound to it: {number})" for edition, number in missing.items())
        raise EditionNotLoaded(f"no policy file is loaded for {bound}: see TELEMETRY_POLICY_DIR")
