"""Where database, broker and the keys for personal data are: from settings, or from a running `up` or `demo`."""

from pathlib import Path

from msgspec import Struct

from telemetry_svc.embedded import find_running
from telemetry_svc.embedded.files import write_atomically
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.settings import Settings

DEMO_DIR = "demo"
KEYS_FILE = "personal-data.keys"


class NothingRuns(RuntimeError):
    """No address is set and no `up` runs. The text names both ways out."""


class Addresses(Struct, frozen=True):
    """Everything a role connects to. `keys`: the keyring for personal data. `embedded_broker`: it is one of ours."""

    database_url: str
    kafka_bootstrap: str
    keys: str
    embedded_broker: bool


def resolve(settings: Settings) -> Addresses:
    """The addresses for a command that starts no servers of its own. Raises `NothingRuns`."""
    database_url = None if settings.database_url is None else settings.database_url.get_secret_value()
    if database_url and settings.kafka_bootstrap:
        return Addresses(database_url, settings.kafka_bootstrap, _keys_from_settings(settings), False)
    for home in (settings.data_dir, settings.data_dir / DEMO_DIR):
        running = find_running(home)
        if running is not None and (running.database_url or database_url):
            return Addresses(
                database_url=database_url or running.database_url or "",
                kafka_bootstrap=settings.kafka_bootstrap or running.kafka_bootstrap or "",
                keys=keyring_text(settings, home),
                embedded_broker=not settings.kafka_bootstrap,
            )
    missing = "TELEMETRY_KAFKA_BOOTSTRAP" if database_url else "TELEMETRY_DATABASE_URL"
    message = f"{missing} is not set and no `telemetry-svc up` runs in {settings.data_dir} (TELEMETRY_DATA_DIR)"
    raise NothingRuns(message)


def resolve_database(settings: Settings) -> str:
    """The database alone, for commands that need no broker and no names. Raises `NothingRuns`."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return resolve(settings).database_url


def keyring_text(settings: Settings, home: Path) -> str:
    """The keyring from the settings, or that of a data directory, made there at the first start."""
    if settings.personal_data_keys is not None:
        return settings.personal_data_keys.get_secret_value()
    path = home / KEYS_FILE
    if not path.exists():
        write_atomically(path, new_keyring_text())
    return path.read_text()


def _keys_from_settings(settings: Settings) -> str:
    if settings.personal_data_keys is None:
        message = "TELEMETRY_PERSONAL_DATA_KEYS is not set: `telemetry-svc keys keyring` prints a new one to keep"
        raise NothingRuns(message)
    return settings.personal_data_keys.get_secret_value()
