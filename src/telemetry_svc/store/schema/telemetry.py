"""Tables of what was received and what was decided from it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from telemetry_svc.store.schema.base import UtcDateTime, Xid8, metadata


def _ping_columns() -> list[Column[object]]:
    return [
        Column("machine_id", Text, nullable=False),
        Column("recorded_at", UtcDateTime, nullable=False),
        Column("dedupe", BigInteger, nullable=False, comment="the sequence, or minus a hash of the content"),
        Column("received_at", UtcDateTime, nullable=False, comment="the broker's append time"),
        Column("future", Boolean, nullable=False, comment="dated > 5 min after received_at: decides nothing"),
        Column("hour_meter_ch", Integer, comment="hundredths of an hour"),
        Column("latitude_deg", Double),
        Column("longitude_deg", Double),
        Column("altitude_m", Double),
        Column("speed_kmh", Double),
        Column("heading_deg", Double),
        Column("coolant_temperature_c", Double),
        Column("oil_pressure_kpa", Double),
        Column("fuel_level_pct", Double),
        Column("battery_v", Double),
        Column("faults", JSONB, comment="list of codes; [] = no active fault; null = not reported"),
        Column("engine_running", Boolean),
        Column("device_id", Text),
        Column("sequence", BigInteger),
        Column("partition", SmallInteger, nullable=False),
        Column("topic_offset", BigInteger, nullable=False),
        Column("apply_seq", BigInteger, nullable=False, comment="order in which its partition's owner applied it"),
    ]


ping = Table(
    "ping",
    metadata,
    *_ping_columns(),
    PrimaryKeyConstraint("machine_id", "recorded_at", "dedupe"),
    postgresql_partition_by="RANGE (recorded_at)",
)

ping_outlier = Table(
    "ping_outlier",
    metadata,
    *_ping_columns(),
    PrimaryKeyConstraint("machine_id", "recorded_at", "dedupe"),
    comment="pings dated outside the partitions of `ping` (a clock at 2011 or 2038): kept whole, same key",
)

machine_state = Table(
    "machine_state",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("partition", SmallInteger, nullable=False),
    Column("next_check_at", UtcDateTime, comment="when time alone may decide something"),
    Column("state", LargeBinary, nullable=False, comment="rules.MachineState as JSON"),
    Column("snapshot_at", UtcDateTime, nullable=False, server_default=func.now(), comment="of its last snapshot"),
    Index("ix_machine_state_due", "partition", "next_check_at", postgresql_where=text("next_check_at IS NOT NULL")),
    Index("ix_machine_state_snapshot", "partition", "snapshot_at"),
)

machine_snapshot = Table(
    "machine_snapshot",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("apply_seq", BigInteger, primary_key=True, autoincrement=False, comment="every input up to here is in it"),
    Column("taken_at", UtcDateTime, nullable=False, comment="the broker's clock: all received before is in it"),
    Column("event_n", BigInteger, nullable=False, comment="the machine's events up to here were decided before it"),
    Column("state", LargeBinary, nullable=False, comment="as in machine_state"),
    comment="where a replay may begin; kept as long as telemetry",
)

event = Table(
    "event",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("time", UtcDateTime, nullable=False, comment="when the fact became true"),
    Column("body", JSONB, nullable=False, comment="the CloudEvent as it goes out"),
    Column("evidence", JSONB, comment="what decided it"),
    Column("rules_version", Text, comment="of the service whose rules decided it"),
    Column("by_replay", Boolean, nullable=False, server_default=text("false"), comment="added by `replay`"),
    Column("decided_at", UtcDateTime, nullable=False, server_default=func.now()),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("n", BigInteger, Identity(always=True), nullable=False),
    Index("ix_event_cursor", "xid", "n"),
    Index("ix_event_id", "id"),
)

command = Table(
    "command",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("status", Text, nullable=False, comment="pending, applied, rejected"),
    Column("reason", Text, comment="why it was rejected"),
    Column("created_at", UtcDateTime, nullable=False, server_default=func.now()),
    Column("received_at", UtcDateTime, comment="the broker's append time"),
    Column("partition", SmallInteger),
    Column("apply_seq", BigInteger),
    Index("ix_command_id", "id"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("topic_offset", BigInteger, primary_key=True),
    Column("error_class", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("machine_id", Text, comment="where it could be read"),
    Column("record_timestamp", UtcDateTime, nullable=False, comment="received_at of the original"),
    Column("record_key", LargeBinary),
    Column("record_value", LargeBinary, comment="cut at 1 MiB"),
    Column("original_length", Integer, comment="where record_value was cut"),
    Column("record_headers", JSONB, nullable=False, server_default="[]", comment="[[name, value in base64], …]"),
    Column("created_at", UtcDateTime, nullable=False, server_default=func.now()),
    Column("requested_at", UtcDateTime, comment="a person wants it tried again, and it was not yet"),
    Column("taken_up_at", UtcDateTime, comment="when it was tried again and no registration helps"),
    Column("taken_up_as", Text, comment="replayed, repeated, or the class it failed with again"),
    Column("taken_up_why", Text, comment="why it failed again"),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("n", BigInteger, Identity(always=True), nullable=False),
    Index("ix_dead_letter_cursor", "xid", "n"),
    Index(
        "ix_dead_letter_unknown_machine",
        "machine_id",
        postgresql_where=text("error_class = 'unknown_machine' AND taken_up_at IS NULL"),
    ),
    Index("ix_dead_letter_requested", "partition", postgresql_where=text("requested_at IS NOT NULL")),
)

parked_machine = Table(
    "parked_machine",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("partition", SmallInteger, nullable=False),
    Column("topic", Text, comment="of the dead letter that it waits behind; null: it is catching up"),
    Column("topic_offset", BigInteger),
    Column("reason", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("parked_at", UtcDateTime, nullable=False, server_default=func.now()),
    Column("next_try_at", UtcDateTime, nullable=False, comment="by PostgreSQL's clock"),
    Index("ix_parked_machine_due", "partition", "next_try_at"),
    comment="machines of which a record made the rules fail; written by the partition's owner alone",
)

held_record = Table(
    "held_record",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("n", BigInteger, Identity(always=True), primary_key=True, comment="the order in which they are applied"),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("topic_offset", BigInteger, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("record_key", LargeBinary),
    Column("record_value", LargeBinary),
    Column("record_headers", JSONB, nullable=False, server_default="[]", comment="[[name, value in base64], …]"),
    comment="what came of a parked machine since: applied in order once it is mended",
)
