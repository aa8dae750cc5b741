"""The command line (contract.md, Command line): `--help` everywhere, one clear line per error, honest exit codes."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated

import typer

from telemetry_svc.cli.errors import refused
from telemetry_svc.cli.late import APPEARANCE, Late, late_group

_HELP = "Carries out the service promise of a maker of excavators: pings in, alerts and phone calls out."


def build() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(cls=late_group(_COMMANDS), help=_HELP, no_args_is_help=True, **APPEARANCE)
    app.callback()(_options)
    return app


def main() -> None:
    """Entry point of `telemetry-svc`. Exit codes: 0 done, 1 done in part, 2 refused, 130 interrupted."""
    with refused():
        build()()
    sys.exit(0)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"telemetry-svc {version('telemetry-svc')}")
        raise typer.Exit


def _options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say the version")
    ] = False,
) -> None:
    """What goes before a command."""


def _serve(app: typer.Typer) -> None:
    from telemetry_svc.cli.serve import serve_commands

    serve_commands(app)


def _fleet(app: typer.Typer) -> None:
    from telemetry_svc.cli.fleet import fleet_commands

    fleet_commands(app)


def _keys(app: typer.Typer) -> None:
    from telemetry_svc.cli.keys import keys_app

    app.add_typer(keys_app(), name="keys")


def _policy(app: typer.Typer) -> None:
    from telemetry_svc.cli.policy import policy_app

    app.add_typer(policy_app(), name="policy")


def _replay(app: typer.Typer) -> None:
    from telemetry_svc.cli.replay import replay_command

    app.command("replay")(replay_command)


def _dead_letters(app: typer.Typer) -> None:
    from telemetry_svc.cli.dead_letters import dead_letters_app

    app.add_typer(dead_letters_app(), name="dead-letters")


def _recover(app: typer.Typer) -> None:
    from telemetry_svc.cli.recover import recover_command

    app.command("recover")(recover_command)


_COMMANDS: Mapping[str, Late] = {
    "up": Late("Run everything: an embedded PostgreSQL and Kafka where none is set, all roles, one port.", _serve),
    "migrate": Late("Bring database and topics to the current version; safe to repeat.", _serve),
    "gateway": Late("Run the gateway: devices post pings over HTTP, the broker acknowledges them.", _serve),
    "ingest": Late("Run ingest: pings and commands become history, states, events and alerts.", _serve),
    "notify": Late("Run notify: alerts become call tasks.", _serve),
    "schedule": Late("Run the scheduler: ticks, partitions ahead of time, clearing up.", _serve),
    "api": Late("Run the API: machines, alerts and the call queue over HTTP.", _serve),
    "demo": Late("Run everything with a simulated fleet and watch it; its directory is emptied at each start.", _fleet),
    "simulate": Late("Register a seeded fleet and write its pings to the ping topic.", _fleet),
    "machines": Late("Registered machines.", _fleet),
    "pings": Late("Pings.", _fleet),
    "keys": Late("Keys of devices and people.", _keys),
    "policy": Late("Editions of the service policy.", _policy),
    "replay": Late(
        "Run stored pings and commands through the rules again and add the facts that are missing.", _replay
    ),
    "dead-letters": Late("Records that could not be taken.", _dead_letters),
    "recover": Late(
        "After a restore of the database: put back what was told of calls meanwhile, then let calls go out again.",
        _recover,
    ),
}
