"""The demo's own edition: the revised one with a silence of seconds, as a file in the demo's directory.

A silence is judged by the broker's clock, and nobody watches a demo for 72 hours. So one machine is bound to an edition
in which they are seconds; its file lies where `policy diff` can be asked what else it says (nothing).
"""

from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from telemetry_svc.app import Wiring
from telemetry_svc.policies import built_in_file, load_file
from telemetry_svc.simulate.demo import SECONDS_EDITION
from telemetry_svc.telemetry import EditionId

REVISED = EditionId("zoomlion-2011-rev1")
TICK_EVERY = timedelta(seconds=10)
_CHANGES = (
    (f"edition: {REVISED}", f"edition: {SECONDS_EDITION}"),
    ('en: "User service policy 2011, revision (1)"', 'en: "For the demo: the revised edition in seconds"'),
    ('zh-CN: "2011用户服务政策-修订(1)"', 'zh-CN: "演示用修订版（时间以秒计）"'),  # noqa: RUF001
    ("sent nothing for 72 hours", "sent nothing for 5 seconds"),
    ("连续72小时无数据", "连续5秒无数据"),
    ("after: 72 h", "after: 5 s"),
    ("min_span: 72 h", "min_span: 0 s"),
)


def in_seconds(wiring: Wiring, home: Path) -> Wiring:
    """A wiring that knows this edition too, and in which time passes often enough for it."""
    edition = load_file(_written(home / "policies" / f"{SECONDS_EDITION}.yaml"))
    return replace(wiring, policies={**wiring.policies, edition.edition: edition}, tick_every=TICK_EVERY)


def _written(path: Path) -> Path:
    content = built_in_file(REVISED).read_text(encoding="utf-8")
    for before, after in _CHANGES:
        if before not in content:
            raise LookupError(f"{REVISED} no longer says {before!r}")
        content = content.replace(before, after)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
