"""`policy check|show|diff`: policy files for those who write, sell and change them.

What is right or different is decided in `policies/`; here files and editions are found, and the running database, where
there is one, is asked whom a difference would touch.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from telemetry_svc.cli.running import run, settings_with_logs
from telemetry_svc.policies import Difference, Language, PolicyError, check_files, diff, load_file, load_policies, show
from telemetry_svc.rules import Policy
from telemetry_svc.settings import Settings
from telemetry_svc.telemetry import EditionId

if TYPE_CHECKING:
    from telemetry_svc.store.editions import BoundMachine

IDS_SHOWN = 20
_WORDS = ("clauses.", "in_force")
"""Differences in what is said about an edition, not in how a machine is treated."""


def policy_app() -> typer.Typer:
    """The sub-commands of `policy`."""
    app = typer.Typer(help="Editions of the service policy.", no_args_is_help=True)
    app.command("check")(_check)
    app.command("show")(_show)
    app.command("diff")(_diff)
    return app


def _check(files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="policy files (YAML)")]) -> None:
    """Name every fault of the files with its line; exit code 1 where there is one."""
    findings = check_files(files)
    for finding in findings:
        typer.echo(str(finding))
    if findings:
        raise typer.Exit(1)
    typer.echo(f"{len(files)} good: {', '.join(load_file(path).edition for path in files)}")


def _show(
    edition: Annotated[str, typer.Argument(metavar="ID", help="the edition, or a policy file")],
    language: Annotated[Language, typer.Option(help="en or zh-CN")] = "en",
    internal: Annotated[bool, typer.Option("--internal", help="for operators: also thresholds and the queue")] = False,
) -> None:
    """Show an edition as a customer may be shown it: every promise in one sentence, and its numbers."""
    typer.echo(show(_policy(edition, settings_with_logs()), language, internal=internal).rstrip())


def _diff(
    a: Annotated[str, typer.Argument(help="an edition, or a policy file")],
    b: Annotated[str, typer.Argument(help="an edition, or a policy file")],
) -> None:
    """Show what differs between two editions, and which registered machines that would touch."""
    settings = settings_with_logs()
    before, after = _policy(a, settings), _policy(b, settings)
    differences = diff(before, after)
    number = len(differences)
    typer.echo(f"{before.edition} -> {after.edition}: {number or 'no'} difference{'' if number == 1 else 's'}")
    for one in differences:
        typer.echo(f"  {one}")
    if differences:
        for line in _touched(settings, dict.fromkeys((before.edition, after.edition)), differences):
            typer.echo(line)


def _policy(name: str, settings: Settings) -> Policy:
    """An edition by its id, or the one of a file. Raises `PolicyError`."""
    known = load_policies(settings.policy_dir)
    if name in known:
        return known[EditionId(name)]
    if Path(name).is_file():
        return load_file(Path(name))
    raise PolicyError(f"{name} is no edition known here ({', '.join(known)}) and no file")


def _touched(settings: Settings, editions: Iterable[EditionId], differences: Sequence[Difference]) -> Iterator[str]:
    """A line per edition; where no database runs, one that says so."""
    from telemetry_svc.cli.addresses import NothingRuns, resolve_database

    try:
        database_url = resolve_database(settings)
    except NothingRuns as error:
        yield f"machines: not looked up, {error}"
        return
    machines = run(_bound(database_url, list(editions)))
    for edition in editions:
        yield _line(edition, [one for one in machines if one.edition == edition], differences)


async def _bound(database_url: str, editions: Sequence[EditionId]) -> "list[BoundMachine]":
    from telemetry_svc.store.editions import bound_to
    from telemetry_svc.store.engine import create_engine

    engine = create_engine(database_url, application_name="telemetry-policy")
    try:
        async with engine.connect() as connection:
            return await bound_to(connection, editions)
    finally:
        await engine.dispose()


def _line(edition: EditionId, machines: "Sequence[BoundMachine]", differences: Sequence[Difference]) -> str:
    deeds = [one for one in differences if not one.where.startswith(_WORDS)]
    touched = [one.machine_id for one in machines if any(each.touches(one) for each in deeds)]
    more = f" and {len(touched) - IDS_SHOWN} more" if len(touched) > IDS_SHOWN else ""
    ids = f": {', '.join(touched[:IDS_SHOWN])}{more}" if touched else ""
    return f"touches {len(touched)} of the {len(machines)} machines bound to {edition}{ids}"
