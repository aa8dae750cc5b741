"""`telemetry-svc` as a person runs it: another process, its exit code and what it printed."""

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    code: int
    out: list[str]
    err: list[str]


async def telemetry(
    *arguments: str, home: Path, database_url: str | None = None, policy_dir: Path | None = None
) -> Answer:
    """Runs a command in the directory `home`, with a database or with nothing running."""
    settings = {"TELEMETRY_DATA_DIR": str(home)}
    if database_url is not None:
        settings["TELEMETRY_DATABASE_URL"] = database_url
    if policy_dir is not None:
        settings["TELEMETRY_POLICY_DIR"] = str(policy_dir)
    others = {name: value for name, value in os.environ.items() if not name.startswith("TELEMETRY_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "telemetry_svc",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=others | settings,
        cwd=home,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Answer(process.returncode, out.decode().splitlines(), err.decode().splitlines())
