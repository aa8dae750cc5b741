"""The only code that consumes and relays (design.md, Rooms): it knows offsets, epochs and acks, not what a message
means.

`FencedConsumer` turns records into fenced transactions of a `Handler`; `OutboxRelay` turns outbox rows into records.
"""
