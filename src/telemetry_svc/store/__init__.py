"""PostgreSQL and nothing else: tables, set-based SQL, and no knowledge of rules or Kafka (design.md, Rooms)."""
