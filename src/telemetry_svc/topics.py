"""Names of the topics (contract.md, Topics): the outside world relies on them."""

PINGS = "excavator.pings"
COMMANDS = "excavator.commands"
MAINTENANCE_DUE = "excavator.alerts.maintenance-due"
ANOMALY = "excavator.alerts.anomaly"
CALLS = "excavator.calls"
DEAD_LETTERS = "excavator.dead-letters"

INGEST_GROUP = "telemetry-ingest"
NOTIFY_GROUP = "telemetry-notify"

READ_BY = {INGEST_GROUP: (PINGS, COMMANDS), NOTIFY_GROUP: (MAINTENANCE_DUE, ANOMALY)}
"""The two co-partitioned topics of each group: the first and the second of its offsets."""
