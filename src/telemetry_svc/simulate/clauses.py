"""The policy's numbers, taken from its text a second time.

The service reads its numbers from the edition files; the ground truth must not, or one wrong number would be wrong in
both and no test would see it. So they are written down here from the policy's text, each under its clause, and the
fleet uses the same ones to put its machines near an edge.
"""

EDITION_TEXT = "zoomlion-2011"
EDITION_REVISED = "zoomlion-2011-rev1"
EDITIONS = (EDITION_REVISED, EDITION_TEXT)

# I1: the 12 inspections, raised for every machine under both editions.
MILESTONES_H = (50, 250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 10000)
# I1: overdue at >= milestone + 50.00 h.
OVERDUE_AFTER_H = 50

# W1: 20T以上 3000 h or 18 months, 20T以下 2000 h or 12 months; exactly 20 t takes the longer one.
HEAVY_FROM_T = 20.0
# W1, W2: expiring from 100 h before, W1 also from 00:00 30 days before the last covered day.
EXPIRING_LEAD_H = 100
EXPIRING_LEAD_DAYS = 30
# W2: 6000 h, under the text edition for 20T以上 only, under the revised one for every machine.
STRUCTURE_H = 6000

# "What abnormal means": the SPNs that a red stop lamp makes critical; FMI 15 and 17 are the least severe kind.
CRITICAL_SPNS = frozenset({98, 100, 110, 111, 175, 190})
WARNING_FMIS = frozenset({15, 17})
EXTREME_FMIS = frozenset({0, 1})
SEVERITIES = ("warning", "general", "major", "critical")
# Fault code: closes after two later reports without it, the last >= 60 s after the first of them, or after 24 h.
CLEARED_AFTER_S = 60
FORGOTTEN_AFTER_H = 24

# Readings: a ping dated more than 5 min after it was received is a future one and raises nothing.
FUTURE_AFTER_S = 300


def upcoming_lead_h(milestone_h: int) -> int:
    """I1: 10 h for the first, 50 h for the others."""
    return 10 if milestone_h == MILESTONES_H[0] else 50


def warranty_h(tonnage_t: float) -> int:
    """W1, hours."""
    return 3000 if tonnage_t >= HEAVY_FROM_T else 2000


def warranty_months(tonnage_t: float) -> int:
    """W1, months."""
    return 18 if tonnage_t >= HEAVY_FROM_T else 12


def has_structure_warranty(edition: str, tonnage_t: float) -> bool:
    """W2: "rev1: every machine"."""
    return edition == EDITION_REVISED or tonnage_t >= HEAVY_FROM_T


def fault_severity(spn: int, fmi: int, lamp: str) -> str:
    """First match of the four lines under the table of anomalies."""
    if fmi in WARNING_FMIS:
        return "warning"
    red_stop = lamp == "red_stop"
    if red_stop and (fmi in EXTREME_FMIS or spn in CRITICAL_SPNS):
        return "critical"
    return "major" if red_stop or fmi in EXTREME_FMIS else "general"
