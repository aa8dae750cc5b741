"""What the real readings must give, worked out from the policy's text with arithmetic of its own (no rule, no truth).

A fact is `(rule, subject, stage)`. The facts of one reading are ordered by the hours they stand at; at equal hours
inspections, warranty, check-up (contract.md, Alerts).
"""

import csv
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

FILE = Path(__file__).parents[2] / "examples" / "fleet-readings" / "fleet-readings.csv"
EDITION = "zoomlion-2011-rev1"
NAMESPACE = UUID("6f1d2c4e-8a53-5b7e-9c0d-3e2a7b4f1d60")
MILESTONES_H = (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 10000)
STRUCTURE_H = 6000

Fact = tuple[str, str, str]


class Row(NamedTuple):
    """One line of the file."""

    machine_id: str
    tonnage_t: float
    recorded_at: datetime
    hours_h: float


def read_rows() -> list[Row]:
    with FILE.open(newline="", encoding="utf-8") as lines:
        return [
            Row(
                cells["machine_id"],
                float(cells["tonnage_t"]),
                datetime.fromisoformat(cells["recorded_at"]),
                float(cells["hour_meter_h"]),
            )
            for cells in csv.DictReader(lines)
        ]


def facts_of(row: Row) -> list[Fact]:
    """Everything that one reading of a machine that was never inspected shows, in order."""
    found: list[tuple[float, int, Fact]] = []
    for milestone_h in MILESTONES_H:
        lead_h = 10 if milestone_h == 50 else 50
        for from_h, stage in ((milestone_h, "due"), (milestone_h + 50, "overdue")):
            if row.hours_h >= from_h:
                found.append((from_h, 0, ("inspection", str(milestone_h), stage)))
        if milestone_h - lead_h <= row.hours_h < milestone_h:
            found.append((milestone_h - lead_h, 0, ("inspection", str(milestone_h), "upcoming")))
    for coverage, limit_h in (("machine", 3000 if row.tonnage_t >= 20 else 2000), ("structure", STRUCTURE_H)):
        if row.hours_h >= limit_h:
            found.append((limit_h, 1, ("warranty", coverage, "expired")))
            if coverage == "machine":
                found.append((limit_h, 2, ("checkup", "1", "due")))
        elif row.hours_h >= limit_h - 100:
            found.append((limit_h - 100, 1, ("warranty", coverage, "expiring")))
    return [fact for _, _, fact in sorted(found, key=lambda one: one[:2])]


def reasons_of(row: Row) -> list[Fact]:
    """The reasons of the machine's call: *overdue* has taken the place of *due*, the rest stands as it came."""
    facts = facts_of(row)
    return [
        (rule, subject, "overdue" if (rule, subject, "overdue") in facts else stage)
        for rule, subject, stage in facts
        if stage != "overdue"
    ]


def id_of(machine_id: str, fact: Fact) -> str:
    """The id of a fact, for ever (contract.md, Alerts)."""
    return str(uuid5(NAMESPACE, "|".join((machine_id, *fact))))


def fact_in(event: Mapping[str, object]) -> Fact:
    """The fact that a CloudEvent tells, by what is in its `data`."""
    data = event["data"]
    assert isinstance(data, dict)
    if data["kind"] in {"inspection", "warranty", "checkup"}:
        subject = {"inspection": data["milestone_h"], "warranty": data["coverage"], "checkup": data["checkup_no"]}
        return data["kind"], str(subject[data["kind"]]), data["stage"]
    phase = f"worsened-{data['severity']}" if data["phase"] == "worsened" else data["phase"]
    return data["kind"], str(data["episode"]).removeprefix(f"{data['kind']}|"), phase
