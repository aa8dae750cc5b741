"""The event loop stands still amid a transaction, for longer than the server waits for it (faults.md, 13)."""

import asyncio
import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream.batch import Batch
from telemetry_svc.watchdog import Watchdog
from tests.stream.rig import PARTITIONS, Probe, Rig

SERVER_WAITS_S = 0.5
BLOCKED_S = 2.0


class Culprit:
    """Blocks the loop at the first batch with records, once."""

    def __init__(self) -> None:
        self.times = 0

    async def amid_a_batch(self, _connection: AsyncConnection, batch: Batch) -> None:
        if batch.size and not self.times:
            self.times += 1
            compute_for_long()


def compute_for_long() -> None:
    time.sleep(BLOCKED_S)


def _impatient(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    parameters["server_settings"] |= {"idle_in_transaction_session_timeout": f"{SERVER_WAITS_S * 1_000:.0f}ms"}


async def test_it_is_named_and_has_no_effect_twice(rig: Rig, database_url: str) -> None:
    engine = create_engine(database_url, application_name="tests-blocked")
    event.listen(engine.sync_engine, "do_connect", _impatient)
    for partition in range(PARTITIONS):
        await rig.produce(partition, *(f"v{number}".encode() for number in range(10)))
    watchdog, stop = Watchdog(blocked_s=BLOCKED_S / 4, beat_s=0.05), asyncio.Event()
    culprit = Culprit()
    with capture_logs() as logs:
        watching = asyncio.create_task(watchdog.run(stop))
        async with rig.member(probe=Probe(rig.group, inside=culprit.amid_a_batch), engine=engine) as member:
            rig.assert_exactly_once(await rig.until_all_seen())
        stop.set()
        await watching
    assert culprit.times == 1
    assert member.counted("failed_batches") >= 1
    named = [line for line in logs if line["event"] == "the event loop is blocked"]
    assert "compute_for_long" in named[0]["culprit"]
    await engine.dispose()
