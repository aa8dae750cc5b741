"""Excavator pings in through Kafka; maintenance and anomaly alerts and service calls out.

The one sentence of the design: pings come in through Kafka, pure rules turn each one and the machine's remembered
state into events, one PostgreSQL transaction makes it all durable, and from there alerts and phone calls go out.
"""

__version__ = "0.1.0"
