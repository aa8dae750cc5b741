"""`keys create|list|revoke`: the key alone is the last line of stdout, for it is shown once and stored only hashed."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.cli.addresses import resolve_database
from telemetry_svc.cli.running import run, settings_with_logs
from telemetry_svc.codec.ping import NAME
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.store import keys
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.keys import BadBindingError, KeyBinding, Role
from telemetry_svc.telemetry import MachineId

T = TypeVar("T")


def keys_app() -> typer.Typer:
    """The sub-commands of `keys`."""
    app = typer.Typer(help="Keys of devices and people.", no_args_is_help=True)

    @app.command()
    def create(
        role: Annotated[Role, typer.Option(help="what the key may do")],
        machine: Annotated[list[str] | None, typer.Option(help="a device's machine; may be repeated")] = None,
        all_machines: Annotated[bool, typer.Option("--all-machines", help="a bridge that speaks for all")] = False,
        expert: Annotated[str | None, typer.Option(help="the expert this key speaks for, and no other")] = None,
    ) -> None:
        """Make a key; it is the last line of stdout and cannot be shown again."""
        for machine_id in machine or ():
            if NAME.fullmatch(machine_id) is None:
                raise BadBindingError(f"--machine {machine_id!r} is no machine id: 1-64 of A-Z a-z 0-9 . _ -")
        binding = KeyBinding(role, tuple(map(MachineId, machine or ())), all_machines, expert)
        typer.echo(_on_database(lambda connection: keys.create(connection, binding)))

    @app.command("list")
    def list_keys() -> None:
        """List the keys, without their secrets."""
        for record in _on_database(keys.list_all):
            machines = "all machines" if record.machine_ids is None else " ".join(sorted(record.machine_ids))
            bound = machines if record.role is Role.DEVICE else (record.expert_id or "")
            state = f"revoked {record.revoked_at:%Y-%m-%d}" if record.revoked_at else "good"
            typer.echo(f"{record.id}  {record.role:<12} {state:<20} {bound}")

    @app.command()
    def revoke(key_id: Annotated[str, typer.Argument(help="the id that `keys list` shows")]) -> None:
        """End a key; it is refused within a few seconds."""
        if not _on_database(lambda connection: keys.revoke(connection, key_id)):
            typer.echo(f"no good key has the id {key_id}", err=True)
            raise typer.Exit(1)
        typer.echo(f"{key_id} is revoked")

    @app.command()
    def keyring() -> None:
        """Print a new keyring for TELEMETRY_PERSONAL_DATA_KEYS; without it names and numbers cannot be read again."""
        typer.echo(new_keyring_text().strip())

    return app


def _on_database(job: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    return run(_transaction(job))


async def _transaction(job: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    engine = create_engine(resolve_database(settings_with_logs()), application_name="telemetry-keys")
    try:
        async with engine.begin() as connection:
            return await job(connection)
    finally:
        await engine.dispose()
