"""Counters and gauges of consuming and relaying; the registry is the role's own, so nothing here is global."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BY_GROUP = ("group",)


class ConsumerFamilies:
    """The metrics of all consumer groups of a process, one label value per group."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"telemetry_{name}", text, _BY_GROUP, registry=registry)

        self.records = counter("records", "Records stored")
        self.batches = counter("batches", "Batches committed")
        self.redelivered = counter("redelivered_records", "Records that this member was handed before and is again")
        self.fenced = counter("fenced_batches", "Batches another owner had outrun")
        self.failed = counter("failed_batches", "Batches rolled back and read again")
        self.bisected = counter("bisected_batches", "Batches split at a bad value")
        self.takeovers = counter("takeovers", "Partitions taken over")
        self.gaps = counter("offset_gaps", "Gaps of records: deleted unread, or not decodable")
        self.owned = Gauge("telemetry_owned_partitions", "Partitions owned now", _BY_GROUP, registry=registry)
        self.paused = Gauge("telemetry_reading_paused", "1 while backpressure holds it", _BY_GROUP, registry=registry)
        self.store_s = Histogram(
            "telemetry_batch_store_seconds", "Duration of a batch's transaction", _BY_GROUP, registry=registry
        )


class ConsumerMetrics:
    """One consumer group member. Times are in seconds."""

    def __init__(self, families: ConsumerFamilies, group: str) -> None:
        self.records = families.records.labels(group)
        self.batches = families.batches.labels(group)
        self.redelivered = families.redelivered.labels(group)
        self.fenced = families.fenced.labels(group)
        self.failed = families.failed.labels(group)
        self.bisected = families.bisected.labels(group)
        self.takeovers = families.takeovers.labels(group)
        self.gaps = families.gaps.labels(group)
        self.owned = families.owned.labels(group)
        self.paused = families.paused.labels(group)
        self.store_s = families.store_s.labels(group)


class RelayMetrics:
    """The outbox relay of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter("telemetry_outbox_sent", "Outbox rows acknowledged by the broker", registry=registry)
        self.parked = Counter("telemetry_outbox_parked", "Outbox rows that can never be sent", registry=registry)
        self.failed = Counter("telemetry_outbox_failed", "Passes that ended in an error", registry=registry)
        self.quiet = Gauge(
            "telemetry_outbox_topic_quiet",
            "1 while rows wait for this topic: it is missing or does not answer",
            ("topic",),
            registry=registry,
        )


def outbox_waiting(registry: CollectorRegistry) -> Gauge:
    """How many rows backpressure counts in the outbox, which it does no further than its own mark."""
    return Gauge("telemetry_outbox_waiting", "Outbox rows not yet sent; counted up to 50 001", registry=registry)
