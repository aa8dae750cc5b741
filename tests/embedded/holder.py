"""A process that holds a data directory until it is killed: `holder.py DATA_DIR [--no-kafka]`.

Prints one JSON line once its parts are ready.
"""

import asyncio
import json
import sys
from pathlib import Path

import structlog

from telemetry_svc.embedded import start_embedded


async def hold(data_dir: Path, kafka: bool) -> None:
    async with start_embedded(data_dir, kafka=kafka) as parts:
        parts.announce("http://127.0.0.1:1")
        facts = {
            "database_url": parts.database_url,
            "kafka_bootstrap": parts.kafka_bootstrap if kafka else "",
            "pids": [parts.postgres.pid, *([parts.kafka.pid] if kafka else [])],
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(hold(Path(sys.argv[1]), "--no-kafka" not in sys.argv))
