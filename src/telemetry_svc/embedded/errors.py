"""What can go wrong with the embedded parts, each as one line that says the way out.

The reader is somebody who typed `make demo`: they see the message and nothing else, so a message names the thing,
the reason and what to do instead, and never a stack of causes.
"""

from pathlib import Path

POSTGRES_WAY_OUT = "or set TELEMETRY_DATABASE_URL to a PostgreSQL of your own"
KAFKA_WAY_OUT = "or set TELEMETRY_KAFKA_BOOTSTRAP to a Kafka of your own"


class EmbeddedError(Exception):
    """Any trouble with the embedded parts; `str()` is one line for the user."""


class EmbeddedUnavailable(EmbeddedError):
    """This machine, as it is, cannot run the embedded part: nothing was started."""


class AlreadyRunning(EmbeddedError):
    """Another process holds the data directory."""

    def __init__(self, data_dir: Path, pid: int | None, address: str | None) -> None:
        """Name the first: its process id and the address it announced, where known."""
        self.data_dir = data_dir
        self.pid = pid
        self.address = address
        who = f"process {pid}" if pid is not None else "another process"
        where = f" at {address}" if address else ""
        super().__init__(f"already running in {data_dir}: {who}{where}; stop it, or set TELEMETRY_DATA_DIR to another")


class StartFailed(EmbeddedError):
    """A part was started and did not get ready."""

    def __init__(self, part: str, reason: str, log: Path) -> None:
        """`log` is the file that holds the whole story."""
        self.part = part
        self.log = log
        super().__init__(f"{part} did not start: {reason}; its log is {log}")


class PartDied(EmbeddedError):
    """A part that was running ended without having been asked to."""

    def __init__(self, part: str, exit_code: int, log: Path) -> None:
        """`exit_code` is negative for a signal, as in `subprocess`."""
        self.part = part
        self.exit_code = exit_code
        how = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        super().__init__(f"{part} ended by itself ({how}); its log is {log}")
