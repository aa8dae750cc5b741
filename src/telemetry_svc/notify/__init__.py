"""From an alert to a phone call: what is called about, who may take the call, and what became of it.

Deciding (`matters`, `decide`, `lifecycle`, `outcomes`) is pure; `notifier` and `claims` are the two callers that hold a
database connection. Nothing here knows ingest, HTTP or Kafka.
"""
