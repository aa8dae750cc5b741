"""One machine from end to end: read in one snapshot of the database, run, judged, and what is missing added."""

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from telemetry_svc.replay.course import Course, RulesFailed
from telemetry_svc.replay.inputs import BadCommand, inputs
from telemetry_svc.replay.starting import Start, find_start
from telemetry_svc.replay.verdict import Verdict, verdict
from telemetry_svc.rules import Policy, decode_state
from telemetry_svc.store.raising import raise_events
from telemetry_svc.store.replay_rows import read_at_leisure, stored_events, stored_state
from telemetry_svc.telemetry import EditionId, MachineId

TOLD_EVERY = 100_000


def _silent(machine_id: MachineId, inputs_so_far: int) -> None:
    """Nobody asked to be told."""


class Asked(Struct, frozen=True):
    """What is asked of a replay. `since`: facts decided from then on are judged; `now`: time passes up to here.

    `policy` decides instead of each machine's own edition, and then nothing is added. `tell` hears of long work.
    """

    since: datetime
    now: datetime
    policies: Mapping[EditionId, Policy]
    policy: Policy | None = None
    dry_run: bool = False
    tell: Callable[[MachineId, int], None] = _silent

    @property
    def adds(self) -> bool:
        return not self.dry_run and self.policy is None


class Replayed(Struct, frozen=True):
    """`refused`: applied commands that the rules refuse now; `added`: how many of the new facts were added."""

    machine_id: MachineId
    start: Start
    inputs: int
    refused: int
    verdict: Verdict
    added: int = 0


class NotReplayed(Struct, frozen=True):
    """Nothing was run, or it did not come to its end, and nothing was added."""

    machine_id: MachineId
    reason: str


async def replay_machine(engine: AsyncEngine, machine_id: MachineId, asked: Asked) -> Replayed | NotReplayed:
    """Runs one machine's history; adds the missing facts where that is asked for."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await read_at_leisure(connection)
            try:
                outcome = await _examined(connection, machine_id, asked)
            except (BadCommand, RulesFailed) as error:
                return NotReplayed(machine_id, str(error))
            except msgspec.DecodeError as error:
                return NotReplayed(machine_id, f"its state cannot be read: {error}")
    if isinstance(outcome, NotReplayed) or not (asked.adds and outcome.verdict.new):
        return outcome
    async with engine.begin() as connection:
        added = await raise_events(connection, outcome.verdict.new, by_replay=True)
    return Replayed(machine_id, outcome.start, outcome.inputs, outcome.refused, outcome.verdict, len(added))


async def _examined(connection: AsyncConnection, machine_id: MachineId, asked: Asked) -> Replayed | NotReplayed:
    stored = await stored_state(connection, machine_id)
    if stored is None:
        return NotReplayed(machine_id, "ingest knows no such machine")
    known = decode_state(stored.state)
    policy = asked.policy or asked.policies.get(known.machine.policy_edition)
    if policy is None:
        return NotReplayed(machine_id, f"its edition {known.machine.policy_edition} is not loaded here")
    registered_at = known.maintenance.registered_at
    start = await find_start(
        connection,
        machine_id,
        asked.since,
        registered_at=registered_at,
        registration_first=asked.policy is not None,  # a snapshot's limits are those of the edition that made it
    )
    if isinstance(start, str):
        return NotReplayed(machine_id, start)
    facts = await stored_events(connection, machine_id)
    course = Course(policy, start.state, {fact.id for fact in facts})
    # What ingest has not checked yet it may still have to read pings for: a backlog is no silence.
    end = asked.now if stored.next_check_at is None else min(asked.now, stored.next_check_at)
    await _run(connection, machine_id, course, start, end, asked)
    found = verdict(course.raised, facts, start, asked.since)
    return Replayed(machine_id, start, course.inputs, course.refused, found)


async def _run(
    connection: AsyncConnection, machine_id: MachineId, course: Course, start: Start, end: datetime, asked: Asked
) -> None:
    async for due in inputs(connection, machine_id, start.after_seq):
        course.pass_time(min(due.passed, asked.now))
        course.take(due.given)
        if course.inputs % TOLD_EVERY == 0:
            asked.tell(machine_id, course.inputs)
    course.pass_time(end)
