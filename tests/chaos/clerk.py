"""Who gives the service its commands amid the faults: registers machines late, and reports inspections done.

He asks until he has an answer, as a person would. A repeat of a registration changes nothing; one of an inspection is
another command, which must be refused where the first arrived, so each attempt is written down.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
from msgspec.structs import replace

from telemetry_svc.simulate.clauses import MILESTONES_H
from telemetry_svc.simulate.fleet import Fleet, MachinePlan, registration
from tests.chaos.records import Order

LATE_EVERY = 8
INSPECTED_EVERY = 6
RETRY_S = 0.3


def late_ones(fleet: Fleet) -> tuple[MachinePlan, ...]:
    """The machines that are registered amid the storm."""
    return fleet.plans[LATE_EVERY - 1 :: LATE_EVERY]


def inspected_ones(fleet: Fleet) -> tuple[tuple[str, int], ...]:
    """(machine, milestone in hours) of the inspections that are done: the first that is open of each.

    So it supersedes nothing, and only what is said of this one milestone depends on when it comes.
    """
    late = {plan.machine.machine_id for plan in late_ones(fleet)}
    return tuple(
        (machine.machine_id, next(hours_h for hours_h in MILESTONES_H if hours_h * 100 > machine.initial_ch))
        for machine in fleet.machines[::INSPECTED_EVERY]
        if machine.machine_id not in late and machine.initial_ch < MILESTONES_H[-1] * 100
    )


class Clerk:
    """`api` tells where the API serves now. `orders` holds every inspection that was reported, answered or not."""

    def __init__(self, api: Callable[[], str | None], key: str, fleet: Fleet, within_s: float) -> None:
        self._api = api
        self._key = key
        self._late = late_ones(fleet)
        self._inspected = inspected_ones(fleet)
        self._pause_s = within_s / (len(self._late) + len(self._inspected))
        self.orders: list[Order] = []

    async def work(self) -> None:
        """Until all is said and answered, one thing after the other, spread over the time."""
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(timeout=10, headers=headers) as client:
            for place in range(max(len(self._late), len(self._inspected))):
                for plan in self._late[place : place + 1]:
                    await asyncio.sleep(self._pause_s)
                    await self._told(client, "machines", registration(plan), (httpx.codes.CREATED, httpx.codes.OK))
                for machine_id, milestone_h in self._inspected[place : place + 1]:
                    await asyncio.sleep(self._pause_s)
                    await self._report(client, machine_id, milestone_h)

    async def _report(self, client: httpx.AsyncClient, machine_id: str, milestone_h: int) -> None:
        now = datetime.now(UTC)
        performed_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        number = len(self.orders)
        self.orders.append(Order(machine_id, milestone_h, performed_at))

        def tried() -> None:
            self.orders[number] = replace(self.orders[number], attempts=self.orders[number].attempts + 1)

        body = {"milestone_h": milestone_h, "performed_at": performed_at.isoformat()}
        path = f"machines/{machine_id}/inspections"
        answer = await self._told(client, path, body, (httpx.codes.ACCEPTED,), tried)
        self.orders[number] = replace(self.orders[number], command_id=answer["command_id"])

    async def _told(
        self,
        client: httpx.AsyncClient,
        path: str,
        body: dict[str, Any],
        wanted: Sequence[int],
        before: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """The answer, after as many attempts as it takes; a refusal is no answer that may come."""
        while True:
            before()
            answer = await self._once(client, path, body)
            if answer is not None and answer.status_code in wanted:
                found: dict[str, Any] = answer.json()
                return found
            if answer is not None and answer.is_client_error:
                message = f"{path}: {answer.status_code} {answer.text}"
                raise RuntimeError(message)
            await asyncio.sleep(RETRY_S)

    async def _once(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response | None:
        """None where there was no answer."""
        address = self._api()
        if address is None:
            return None
        try:
            return await client.post(f"{address}/v1/{path}", json=body)
        except httpx.HTTPError:
            return None
