"""Experts who claim calls while everything falls apart, and write down what they surely held, and what they settled.

They give a call back, hold on to it, forget it until the lease has run out, or say that it was made: then nobody may
be told to call about the same again.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import httpx
from msgspec.structs import replace

from tests.chaos.records import Lease, Settlement

LEASE_S = 2.0
CLAIM_EVERY_S = 0.3
AT_ONCE = 3
TRIES = 3
EXPERTS = ("expert-01", "expert-02")
"""Two of the fleet's own, each at two desks: for a while nobody else is offered their machines' calls."""


class Office:
    """`api` tells where the API serves now. `leases` holds all that were granted, `settlements` all that were told."""

    def __init__(self, api: Callable[[], str | None], key: str, seed: int) -> None:
        self._api = api
        self._key = key
        self._seed = seed
        self.leases: list[Lease] = []
        self.settlements: list[Settlement] = []

    async def work(self, experts: int) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(experts):
                name = EXPERTS[number % len(EXPERTS)]
                group.create_task(self._expert(name, Random(f"{self._seed}/{number}")))

    async def _expert(self, name: str, rng: Random) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(timeout=10, headers=headers) as client:
            while True:
                claimed = await self._ask(client, "claim", {"expert_id": name, "max": AT_ONCE, "lease_s": LEASE_S})
                for task in (claimed or {}).get("tasks", []):
                    await self._hold(client, task, rng)
                await asyncio.sleep(CLAIM_EVERY_S * rng.uniform(0.5, 1.5))

    async def _hold(self, client: httpx.AsyncClient, task: dict[str, Any], rng: Random) -> None:
        until = datetime.fromisoformat(task["lease_expires_at"])
        reasons = frozenset(UUID(reason["alert_id"]) for reason in task["reasons"])
        lease = Lease(task["task_id"], task["lease_token"], until - timedelta(seconds=LEASE_S), until, reasons)
        number = len(self.leases)
        self.leases.append(lease)
        match rng.choice(("forget", "release", "renew", "settle")):
            case "release":
                # Whether it is heard or not, from here on another may have it.
                self.leases[number] = replace(lease, until=min(until, datetime.now(UTC)))
                await self._ask(client, f"{lease.task_id}/release", {"lease_token": lease.token})
            case "renew":
                body = {"lease_token": lease.token, "lease_s": LEASE_S}
                renewed = await self._ask(client, f"{lease.task_id}/renew", body)
                if renewed is not None:
                    self.leases[number] = replace(lease, until=datetime.fromisoformat(renewed["lease_expires_at"]))
            case "settle":
                await self._settle(client, lease)
            case _:
                pass

    async def _settle(self, client: httpx.AsyncClient, lease: Lease) -> None:
        """Says that the call was made, a few times where nothing is heard: the key makes a repeat safe."""
        number = len(self.settlements)
        self.settlements.append(Settlement(lease.task_id, lease.reasons))
        body = {"lease_token": lease.token, "outcome": "answered_info", "reasons_done": sorted(map(str, lease.reasons))}
        for _ in range(TRIES):
            if await self._ask(client, f"{lease.task_id}/outcome", body, {"Idempotency-Key": lease.token}) is not None:
                self.settlements[number] = replace(self.settlements[number], at=datetime.now(UTC))
                return
            await asyncio.sleep(CLAIM_EVERY_S)

    async def _ask(
        self, client: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The answer; None where there was none, or a refusal."""
        address = self._api()
        if address is None:
            return None
        try:
            answer = await client.post(f"{address}/v1/calls/{path}", json=body, headers=headers)
        except httpx.HTTPError:
            return None
        found: dict[str, Any] | None = answer.json() if answer.status_code == httpx.codes.OK else None
        return found
