"""History once more through the rules, after a mistake or before a change of policy (issue: replay).

Reads what ingest has stored, in the order in which ingest decided it, and compares what the rules raise with the facts
that are known outside. It writes nothing but facts that are missing: states belong to ingest, which alone knows how far
a partition is read (docs/replay.md).
"""

from telemetry_svc.replay.machine import Asked, NotReplayed, Replayed, replay_machine
from telemetry_svc.replay.verdict import Change, Verdict

__all__ = ["Asked", "Change", "NotReplayed", "Replayed", "Verdict", "replay_machine"]
