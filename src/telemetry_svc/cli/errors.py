"""Turns what a user can mend into one line on stderr and exit code 2; everything else stays a defect with its trace.

The errors are imported when there is one to tell: a command that ends well needs none of their modules.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gaierror
from typing import NoReturn


@contextmanager
def refused() -> Iterator[None]:
    """Exit code 2 with the error's own line; 2 as well where the database does not answer."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        line = _line_of(error)
        if line is not None:
            _exit(line)
        raise


def _line_of(error: Exception) -> str | None:
    """None: a defect of ours."""
    from telemetry_svc.cli.addresses import KEYS_FILE
    from telemetry_svc.privacy import BadKeyringError

    if isinstance(error, _mendable()):
        return str(error)
    if isinstance(error, BadKeyringError):
        return f"TELEMETRY_PERSONAL_DATA_KEYS (unset: the file {KEYS_FILE} in TELEMETRY_DATA_DIR): {error}"
    if isinstance(error, _of_the_database()):
        if (given := _unreadable_argument(error)) is not None:
            return f"an argument is not UTF-8: {given!a}"
        cause = getattr(error, "orig", None) or error
        return f"the database at TELEMETRY_DATABASE_URL refuses: {type(cause).__name__}: {_first_line(cause)}"
    return None


def _mendable() -> tuple[type[Exception], ...]:
    """What says by itself which setting, file or argument it is about."""
    from telemetry_svc.api.csv_file import BadFileError
    from telemetry_svc.cli.addresses import NothingRuns
    from telemetry_svc.cli.recover import NotToBeRecovered
    from telemetry_svc.embedded import EmbeddedError
    from telemetry_svc.policies import PolicyError
    from telemetry_svc.settings import SettingsError
    from telemetry_svc.store.engine import BadDatabaseUrl
    from telemetry_svc.store.keys import BadBindingError
    from telemetry_svc.stream.topics import BrokerUnavailable, LayoutError, TopicsRefused
    from telemetry_svc.web.server import PortTaken

    return (
        BadBindingError,
        BadDatabaseUrl,
        BadFileError,
        BrokerUnavailable,
        EmbeddedError,
        LayoutError,
        NotToBeRecovered,
        NothingRuns,
        PolicyError,
        PortTaken,
        SettingsError,
        TopicsRefused,
    )


def _of_the_database() -> tuple[type[Exception], ...]:
    """What a connection or a statement ends with that is no defect of ours; the broker's errors have names."""
    import asyncpg
    from sqlalchemy.exc import DBAPIError

    return (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, gaierror, TimeoutError)


def _unreadable_argument(error: Exception) -> str | None:
    """An argument that no text of the database can hold, where that is what a value was refused for."""
    from telemetry_svc.store.refusals import Refusal, refusal_of

    if refusal_of(error) is not Refusal.DATA:
        return None
    return next((one for one in sys.argv if not one.isascii() and one.encode(errors="ignore").decode() != one), None)


def _exit(line: str) -> NoReturn:
    print(f"telemetry-svc: {line}", file=sys.stderr)  # noqa: T201 - this is the command line
    sys.exit(2)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]
