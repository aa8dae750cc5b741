"""What ingest counts: pings by what became of them, dead letters by class, events by type and stage."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from telemetry_svc.events import MaintenanceDue
from telemetry_svc.ingest.desk import Desk


class IngestMetrics:
    """Counters of one ingest member; counted only after COMMIT."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pings = Counter("telemetry_pings", "Pings by what became of them", ["outcome"], registry=registry)
        self.dead = Counter("telemetry_dead_letters", "Records refused", ["error_class"], registry=registry)
        self.events = Counter("telemetry_events", "Facts decided", ["kind", "stage"], registry=registry)
        self.held = Counter("telemetry_held_records", "Records held behind a parked machine's", registry=registry)
        self.parked = Gauge("telemetry_parked_machines", "Machines parked, in all partitions", registry=registry)
        self.breaker_open = Gauge("telemetry_breaker_open", "1 while ingest stands still", registry=registry)
        self.breaker_opened = Counter("telemetry_breaker_opened", "How often it came to that", registry=registry)

    def count(self, desk: Desk) -> None:
        tally = desk.tally
        self.pings.labels("stored").inc(len(desk.pings) + len(desk.outliers))
        self.pings.labels("outliers").inc(len(desk.outliers))
        for outcome in ("repeated", "late", "future"):
            self.pings.labels(outcome).inc(getattr(tally, outcome))
        for one in desk.refused:
            self.dead.labels(one.why.error_class).inc()
        self.held.inc(len(desk.held))
        for event in desk.events:
            data = event.data
            stage = data.stage if isinstance(data, MaintenanceDue) else data.phase
            self.events.labels(data.kind, stage).inc()
