"""Turns what a user can mend into one line on stderr and exit code 2; everything else stays a defect with its trace."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gaierror

import asyncpg
from sqlalchemy.exc import DBAPIError

from telemetry_svc.api.csv_file import BadFileError
from telemetry_svc.app import PortTaken
from telemetry_svc.cli.addresses import KEYS_FILE, NothingRuns
from telemetry_svc.embedded import EmbeddedError
from telemetry_svc.policies import PolicyError
from telemetry_svc.privacy import BadKeyringError
from telemetry_svc.settings import SettingsError
from telemetry_svc.store.engine import BadDatabaseUrl
from telemetry_svc.store.keys import BadBindingError
from telemetry_svc.stream.topics import BrokerUnavailable, LayoutError, TopicsRefused

_MENDABLE = (
    BadBindingError,
    BadDatabaseUrl,
    BadFileError,
    BrokerUnavailable,
    EmbeddedError,
    LayoutError,
    NothingRuns,
    PolicyError,
    PortTaken,
    SettingsError,
    TopicsRefused,
)


_DATABASE = (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, gaierror, TimeoutError)
"""What a connection or a statement ends with that is no defect of ours; the broker's errors have names of their own."""


@contextmanager
def refused() -> Iterator[None]:
    """Exit code 2 with the error's own line; 2 as well where the database does not answer."""
    try:
        yield
    except _MENDABLE as error:
        _exit(str(error))
    except BadKeyringError as error:
        _exit(f"TELEMETRY_PERSONAL_DATA_KEYS (unset: the file {KEYS_FILE} in TELEMETRY_DATA_DIR): {error}")
    except _DATABASE as error:
        cause = getattr(error, "orig", None) or error
        _exit(f"the database at TELEMETRY_DATABASE_URL refuses: {type(cause).__name__}: {_first_line(cause)}")
    except KeyboardInterrupt:
        sys.exit(130)


def _exit(line: str) -> None:
    print(f"telemetry-svc: {line}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(2)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]
