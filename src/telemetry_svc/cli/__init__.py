"""The command line (contract.md, Command line): `--help` everywhere, one clear line per error, honest exit codes."""

import sys

import typer

from telemetry_svc.cli.dead_letters import dead_letters_app
from telemetry_svc.cli.errors import refused
from telemetry_svc.cli.fleet import fleet_commands
from telemetry_svc.cli.keys import keys_app
from telemetry_svc.cli.policy import policy_app
from telemetry_svc.cli.recover import recover_command
from telemetry_svc.cli.replay import replay_command
from telemetry_svc.cli.serve import serve_commands

_HELP = "Carries out the service promise of a maker of excavators: pings in, alerts and phone calls out."


def build() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
    serve_commands(app)
    fleet_commands(app)
    app.add_typer(keys_app(), name="keys")
    app.add_typer(policy_app(), name="policy")
    app.add_typer(dead_letters_app(), name="dead-letters")
    app.command("replay")(replay_command)
    app.command("recover")(recover_command)
    return app


def main() -> None:
    """Entry point of `telemetry-svc`. Exit codes: 0 done, 1 done in part, 2 refused, 130 interrupted."""
    with refused():
        build()()
    sys.exit(0)
