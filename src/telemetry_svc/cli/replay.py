"""`replay`: stored history once more through the rules, machine by machine, each told in one line."""

from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.cli.addresses import resolve_database
from telemetry_svc.cli.moments import moment
from telemetry_svc.cli.running import run, settings_with_logs
from telemetry_svc.clock import SystemClock
from telemetry_svc.policies import load_file, load_policies
from telemetry_svc.replay import Asked, NotReplayed, Replayed, replay_machine
from telemetry_svc.store.editions import bound_to
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.replay_rows import machines_with_state
from telemetry_svc.telemetry import MachineId

SHOWN = 20
MACHINES_AT_ONCE = 1_000


class Total(Struct):
    """What became of all machines."""

    replayed: int = 0
    stopped: int = 0
    same: int = 0
    new: int = 0
    missing: int = 0


def replay_command(
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="RFC 3339 with an offset: what was decided from then on")
    ],
    machine: Annotated[list[str] | None, typer.Option(help="only this machine; may be repeated")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="a policy file that decides instead; implies --dry-run", metavar="FILE")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="add nothing, only say what would be added")] = False,
) -> None:
    """Run stored pings and commands through the rules again and add the facts that are missing.

    Exit code 1 where a machine could not be replayed, or where its own edition does not raise again what is stored.
    """
    now = SystemClock().now()
    settings = settings_with_logs()
    asked = Asked(
        since=moment(since, "--from", now),
        now=now,
        policies=load_policies(settings.policy_dir),
        policy=None if policy is None else load_file(policy),
        dry_run=dry_run or policy is not None,
        tell=_progress,
    )
    total = run(_replay(resolve_database(settings), [MachineId(one) for one in machine or ()], asked))
    typer.echo(_sum_of(total, asked))
    raise typer.Exit(1 if total.stopped or (asked.policy is None and total.missing) else 0)


async def _replay(database_url: str, wanted: Collection[MachineId], asked: Asked) -> Total:
    engine = create_engine(database_url, application_name="telemetry-replay", pool_size=2)
    total = Total()
    try:
        async for machine_id in _chosen(engine, wanted, asked):
            outcome = await replay_machine(engine, machine_id, asked)
            _count(total, outcome)
            for line in lines_of(outcome, asked):
                typer.echo(line)
    finally:
        await engine.dispose()
    return total


async def _chosen(engine: AsyncEngine, wanted: Collection[MachineId], asked: Asked) -> AsyncIterator[MachineId]:
    """The machines that were named; else those bound to the edition of the policy file, if there are any; else all."""
    named = list(dict.fromkeys(wanted))
    if not named and asked.policy is not None:
        async with engine.connect() as connection:
            named = [one.machine_id for one in await bound_to(connection, [asked.policy.edition])]
    for machine_id in named:
        yield machine_id
    last = ""
    while not named:
        async with engine.connect() as connection:
            page = await machines_with_state(connection, last, MACHINES_AT_ONCE)
        for machine_id in page:
            yield machine_id
        if not page:
            return
        last = page[-1]


def lines_of(outcome: Replayed | NotReplayed, asked: Asked) -> Iterator[str]:
    """One line for the machine, and below it what differs, the first of it."""
    if isinstance(outcome, NotReplayed):
        yield f"{outcome.machine_id}: not replayed: {outcome.reason}"
        return
    found, start = outcome.verdict, outcome.start
    refused = f", {outcome.refused} commands refused" if outcome.refused else ""
    changed = f", {len({one.fact.id for one in found.changed})} changed" if asked.policy is not None else ""
    yield (
        f"{outcome.machine_id}: {found.same} same, {len(found.new)} new, {len(found.missing)} missing{changed}"
        f" ({outcome.inputs} inputs from the {start.kind} of {start.at:%FT%TZ}{refused})"
    )
    if asked.policy is not None and start.kind == "snapshot":
        yield "  from a snapshot: its milestones and limits are those of the machine's own edition"
    yield from _first(_differences(outcome, asked))


def _differences(outcome: Replayed, asked: Asked) -> Iterator[str]:
    found = outcome.verdict
    mark = "added" if asked.adds else "new"
    for event in found.new:
        yield f"  {mark}: {event.rule} {event.subject} {event.stage} at {event.time:%FT%TZ}"
    for fact in found.missing:
        yield f"  missing: {_named(fact.body)} at {fact.body['time']}"
    if asked.policy is not None:
        for one in found.changed:
            yield f"  changed: {_named(one.fact.body)}: {one.field} {one.before} -> {one.after}"


def _named(body: dict[str, object]) -> str:
    """A stored fact as a person knows it: kind, what it is about, stage."""
    data = body["data"]
    assert isinstance(data, dict)  # noqa: S101 - a CloudEvent of ours
    about = data.get("milestone_h") or data.get("coverage") or data.get("checkup_no")
    if about is not None:
        return f"{data['kind']} {about} {data['stage']}"
    return f"{data['episode'].replace('|', ' ')} {data['phase']}"


def _first(lines: Iterator[str]) -> Iterator[str]:
    rest = 0
    for number, line in enumerate(lines):
        if number < SHOWN:
            yield line
        else:
            rest += 1
    if rest:
        yield f"  and {rest} more"


def _count(total: Total, outcome: Replayed | NotReplayed) -> None:
    if isinstance(outcome, NotReplayed):
        total.stopped += 1
        return
    total.replayed += 1
    total.same += outcome.verdict.same
    total.new += len(outcome.verdict.new)
    total.missing += len(outcome.verdict.missing)


def _sum_of(total: Total, asked: Asked) -> str:
    new = "added" if asked.adds else "new"
    stopped = f"; {total.stopped} not replayed" if total.stopped else ""
    counts = f"{total.same} same, {total.new} {new}, {total.missing} missing"
    return f"{total.replayed} machine{'' if total.replayed == 1 else 's'}: {counts}{stopped}"


def _progress(machine_id: MachineId, inputs: int) -> None:
    typer.echo(f"{machine_id}: {inputs} inputs so far", err=True)
