"""Experts who claim calls while everything falls apart, and write down what they surely held and until when.

They never say what became of a call: they give it back, hold on to it, or forget it until the lease has run out. So
what has to be called about stays what the alerts say.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
from msgspec.structs import replace

from tests.chaos.records import Lease

LEASE_S = 2.0
CLAIM_EVERY_S = 0.3
AT_ONCE = 3
EXPERTS = ("expert-01", "expert-02")
"""Two of the fleet's own, each at two desks: for a while nobody else is offered their machines' calls."""


class Office:
    """`api` tells where the API serves now. `leases` holds all that were granted."""

    def __init__(self, api: Callable[[], str | None], key: str, seed: int) -> None:
        self._api = api
        self._key = key
        self._seed = seed
        self.leases: list[Lease] = []

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
        lease = Lease(task["task_id"], task["lease_token"], until - timedelta(seconds=LEASE_S), until)
        number = len(self.leases)
        self.leases.append(lease)
        match rng.choice(("forget", "release", "renew")):
            case "release":
                # Whether it is heard or not, from here on another may have it.
                self.leases[number] = replace(lease, until=min(until, datetime.now(UTC)))
                await self._ask(client, f"{lease.task_id}/release", {"lease_token": lease.token})
            case "renew":
                body = {"lease_token": lease.token, "lease_s": LEASE_S}
                renewed = await self._ask(client, f"{lease.task_id}/renew", body)
                if renewed is not None:
                    self.leases[number] = replace(lease, until=datetime.fromisoformat(renewed["lease_expires_at"]))
            case _:
                pass

    async def _ask(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where there was none, or a refusal."""
        address = self._api()
        if address is None:
            return None
        try:
            answer = await client.post(f"{address}/v1/calls/{path}", json=body)
        except httpx.HTTPError:
            return None
        found: dict[str, Any] | None = answer.json() if answer.status_code == httpx.codes.OK else None
        return found
