"""Tables of the delivery guarantees: who owns a partition and how far it has read, and what still has to go out."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from telemetry_svc.store.schema.base import UtcDateTime, metadata

partition_owner = Table(
    "partition_owner",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("owner_epoch", BigInteger, nullable=False),
    Column("owner_pid", Integer, nullable=False, comment="backend of the owner's pinned connection"),
    Column("owner_backend_start", UtcDateTime, nullable=False, comment="tells a reused pid from the owner's"),
    Column("next_offset_a", BigInteger, nullable=False, comment="of the group's first topic"),
    Column("next_offset_b", BigInteger, nullable=False, comment="of the group's second topic"),
    Column("apply_seq", BigInteger, nullable=False, server_default="0", comment="inputs applied so far"),
    Column("taken_at", UtcDateTime, nullable=False, server_default=func.now()),
)

topic_layout = Table(
    "topic_layout",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partitions", Integer, nullable=False, comment="machines were spread over so many; never changes online"),
)

offset_gap = Table(
    "offset_gap",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("from_offset", BigInteger, primary_key=True),
    Column("to_offset", BigInteger, nullable=False, comment="the first offset after the gap"),
    Column("reason", Text, nullable=False),
    Column("noticed_at", UtcDateTime, nullable=False, server_default=func.now()),
)

outbox_bucket = Table(
    "outbox_bucket",
    metadata,
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("bucket", SmallInteger, ForeignKey("outbox_bucket.bucket"), nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, comment="set for records without a key"),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", JSONB, nullable=False, server_default="[]", comment="[[name, value in base64], …]"),
    Column("created_at", UtcDateTime, nullable=False, server_default=func.now()),
    Column("sent_at", UtcDateTime),
    Column("parked_reason", Text, comment="why it can never be sent"),
    Index("ix_outbox_waiting", "bucket", "id", postgresql_where=text("sent_at IS NULL AND parked_reason IS NULL")),
    Index("ix_outbox_sent", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
)

schedule_slot = Table(
    "schedule_slot",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot", UtcDateTime, primary_key=True),
    Column("done_at", UtcDateTime, nullable=False, server_default=func.now()),
)

schedule_lease = Table(
    "schedule_lease",
    metadata,
    Column("name", Text, primary_key=True, comment="what is led"),
    Column("holder", Uuid, nullable=False, comment="the process that leads, or led last"),
    Column("term", BigInteger, nullable=False, comment="grows with each taking; every write of the leader checks it"),
    Column("expires_at", UtcDateTime, nullable=False),
)

database_identity = Table(
    "database_identity",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="there is one row: 1"),
    Column("identity", Text, nullable=False, comment="server, timeline, database and transaction that wrote it"),
    Column("noted_at", UtcDateTime, nullable=False, server_default=func.now()),
)
