"""`machines import`, `pings import` and `simulate`: a fleet from files, or from a seed."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from telemetry_svc.api.csv_file import BadRow
from telemetry_svc.api.machines_csv import ImportReport, import_machines
from telemetry_svc.app import Role, Service, kafka_settings
from telemetry_svc.cli.addresses import Addresses, resolve
from telemetry_svc.cli.demo import demo_command
from telemetry_svc.cli.pings_csv import GoodRow, read_pings
from telemetry_svc.cli.running import run, settings_with_logs
from telemetry_svc.cli.sending import send_pings
from telemetry_svc.cli.serve import wiring_of
from telemetry_svc.cli.simulated import register_fleet, until_known, values
from telemetry_svc.clock import SystemClock
from telemetry_svc.settings import Settings
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec

KNOWN_WITHIN_S = 5.0
"""contract.md, Machine v1: so soon after its registration ingest knows a machine."""


def fleet_commands(app: typer.Typer) -> None:
    """Adds the commands that bring machines and pings in."""
    machines = typer.Typer(help="Registered machines.", no_args_is_help=True)
    pings = typer.Typer(help="Pings.", no_args_is_help=True)
    app.add_typer(machines, name="machines")
    app.add_typer(pings, name="pings")
    machines.command("import")(_machines_import)
    pings.command("import")(_pings_import)
    app.command("simulate")(_simulate)
    app.command("demo")(demo_command)


def _machines_import(
    file: Annotated[Path, typer.Argument(help="CSV, header = field names of Machine v1")],
    quiet: Annotated[bool, typer.Option("--quiet", help="settle what the first reading of each shows")] = False,
) -> None:
    """Register or change machines from a CSV file; the good rows go in, exit code 1 where there were bad ones."""
    settings = settings_with_logs()
    report = run(_import(settings, resolve(settings), file, quiet=quiet))
    _name_unknown(report.unknown_columns)
    for bad in report.bad:
        typer.echo(f"{file}:{bad.line}: {bad.reason}", err=True)
    typer.echo(f"{report.new} new, {report.known} known, {len(report.bad)} bad")
    raise typer.Exit(1 if report.bad else 0)


async def _import(settings: Settings, addresses: Addresses, file: Path, *, quiet: bool) -> ImportReport:
    service = Service(wiring_of(settings, addresses, frozenset[Role]()))
    try:
        return await import_machines(file, service.engine, service.registration, quiet=quiet)
    finally:
        await service.engine.dispose()


def _pings_import(
    file: Annotated[Path, typer.Argument(help="CSV, header = field names of Ping v1, flattened")],
) -> None:
    """Send the rows of a CSV file as pings; exit code 1 where there were bad ones."""
    settings = settings_with_logs()
    addresses = resolve(settings)
    read = read_pings(file)
    _name_unknown(read.unknown_columns)
    bad = [row for row in read.rows if isinstance(row, BadRow)]
    for row in bad:
        typer.echo(f"{file}:{row.line}: {row.reason}", err=True)
    good = [(str(row.machine_id), row.value) for row in read.rows if isinstance(row, GoodRow)]
    sent = run(send_pings(kafka_settings(settings, addresses.kafka_bootstrap), good))
    typer.echo(f"{sent} sent, {len(bad)} bad")
    raise typer.Exit(1 if bad else 0)


def _name_unknown(columns: Sequence[str]) -> None:
    if columns:
        typer.echo(f"left out: {', '.join(columns)}", err=True)


def _simulate(
    machines: Annotated[int, typer.Option(min=1, max=100_000, help="how many machines")] = 25,
    hours: Annotated[float, typer.Option(min=0.1, max=100_000, help="simulated time in hours, ending now")] = 24.0,
    seed: Annotated[int, typer.Option(help="the same seed is the same fleet")] = 1,
    duplicates: Annotated[float, typer.Option(min=0, max=0.8, help="share of pings sent twice")] = 0.02,
    late: Annotated[float, typer.Option(min=0, max=0.8, help="share of pings that arrive late")] = 0.05,
    faults: Annotated[float, typer.Option(min=0, max=4, help="fault episodes per machine and day")] = 0.1,
) -> None:
    """Register a seeded fleet and write its pings to the ping topic."""
    settings = settings_with_logs()
    addresses = resolve(settings)
    now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    spec = FleetSpec(
        seed=seed,
        machines=machines,
        start=now - timedelta(hours=hours),
        hours=hours,
        duplicates=duplicates,
        late=late,
        faults=faults,
        id_prefix="SIM",
    )
    sent = run(_simulated(settings, addresses, build_fleet(spec)))
    typer.echo(f"{machines} machines registered, {sent} pings sent")


async def _simulated(settings: Settings, addresses: Addresses, fleet: Fleet) -> int:
    service = Service(wiring_of(settings, addresses, frozenset[Role]()))
    try:
        await register_fleet(service, fleet)
        await until_known(service.engine, fleet, KNOWN_WITHIN_S)
    finally:
        await service.engine.dispose()
    kafka = kafka_settings(settings, addresses.kafka_bootstrap)
    return await send_pings(kafka, values(fleet), lambda sent: typer.echo(f"{sent} pings sent", err=True))
