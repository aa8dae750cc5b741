"""`docs/adding-a-rule.md` is true: its steps are done to a copy of the package, and its scenario is run there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "telemetry_svc"
PAGE = (ROOT / "docs" / "adding-a-rule.md").read_text(encoding="utf-8")

RAISED = """
from datetime import UTC, datetime, timedelta
from uuid import UUID

from telemetry_svc.policies import load_policies
from telemetry_svc.rules import step
from telemetry_svc.telemetry import Machine, Ping, Reading, Registration, Sensors

POLICY = load_policies()["zoomlion-2011-rev1"]
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def raised(readings):
    machine = Machine("ZE215-000017", 22.5, POLICY.edition)
    state = step(POLICY, None, Registration(UUID(int=1), machine, NOON, NOON)).state
    words = []
    for minutes, level_pct, running in readings:
        at = NOON + timedelta(minutes=minutes)
        ping = Ping(machine.machine_id, at, sensors=Sensors(fuel_level_pct=level_pct), engine_running=running)
        last = step(POLICY, state, Reading(ping, at))
        state = last.state
        words += [f"{one.rule} {one.subject.split('@')[0]} {one.stage}" for one in last.events]
    return words
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def edited(text: str, hunk: str) -> str:
    """The text with the lines of one hunk added after its line of context, or before it where they stand first."""
    lines = hunk.splitlines()
    (context,) = [line[1:] for line in lines if line.startswith(" ")]
    added = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+"))
    where = f"\n{context}\n"
    assert text.count(where) == 1, f"the page names a line that is not there (once): {context!r}"
    replacement = f"\n{context}\n{added}" if lines[0].startswith(" ") else f"\n{added}{context}\n"
    return text.replace(where, replacement)


def apply(copy: Path, diff: str) -> None:
    for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        name, _, hunks = part.partition("\n")
        path = copy / name
        text = path.read_text(encoding="utf-8")
        for hunk in hunks.split("@@\n"):
            text = edited(text, hunk)
        path.write_text(text, encoding="utf-8")


def test_the_page_is_true(tmp_path: Path) -> None:
    copy = tmp_path / "telemetry_svc"
    copy.mkdir()
    for name in ("__init__.py", "units.py", "telemetry.py", "events.py"):
        shutil.copy(PACKAGE / name, copy / name)
    for name in ("rules", "policies"):
        shutil.copytree(PACKAGE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    rule, scenario = blocks("python")
    (copy / rule.splitlines()[0].removeprefix("# ")).write_text(rule, encoding="utf-8")
    for diff in blocks("diff"):
        apply(copy, diff)
    (tmp_path / "scenario.py").write_text(RAISED + scenario, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "scenario.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
