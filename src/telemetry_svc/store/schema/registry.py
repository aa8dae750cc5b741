"""Tables of who is who: machines, whom to call about them, and who may ask.

`contact` is the one table with personal data, and all of it is sealed (design.md, decision 19).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from telemetry_svc.store.schema.base import UtcDateTime, Xid8, metadata

machine = Table(
    "machine",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("tonnage_t", Double, nullable=False, comment="operating weight"),
    Column("model", Text),
    Column("delivered_on", Date, comment="a day in the machine's own time_zone"),
    Column("time_zone", Text, nullable=False),
    Column("policy_edition", Text, nullable=False, comment="bound at registration, for good"),
    Column("initial_ch", Integer, nullable=False, comment="hundredths of an hour at registration"),
    Column("status", Text, nullable=False),
    Column("device_ids", ARRAY(Text), nullable=False),
    Column("expert_id", Text),
    Column("team_id", Text),
    Column("customer_id", Text),
    Column("geofence", JSONB(none_as_null=True)),
    Column("permitted_hours", JSONB, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()"), comment="of the registration"),
    Column("n", BigInteger, Identity(always=True), nullable=False),
    CheckConstraint("status IN ('active', 'stored', 'retired')", name="status"),
    Index("ix_machine_cursor", "xid", "n"),
)

contact = Table(
    "contact",
    metadata,
    Column("machine_id", Text, ForeignKey("machine.machine_id", ondelete="CASCADE"), primary_key=True),
    Column(
        "ordinal", SmallInteger, primary_key=True, autoincrement=False, comment="0 = the customer; the order of calls"
    ),
    Column("key_id", Text, nullable=False, comment="which key of the keyring sealed it"),
    Column("sealed", LargeBinary, nullable=False, comment="AES-GCM of {name, phone, role, language}"),
    Column("phone_index", LargeBinary, comment="HMAC of the number; null = no number"),
    Index("ix_contact_phone_index", "phone_index"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    Column("all_machines", Boolean, nullable=False),
    Column("machine_ids", ARRAY(Text), nullable=False),
    Column("expert_id", Text, comment="speaks for this expert and for no other"),
    Column("created_at", UtcDateTime, nullable=False, server_default=func.now()),
    Column("revoked_at", UtcDateTime),
)

personal_access = Table(
    "personal_access",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", UtcDateTime, nullable=False, server_default=func.clock_timestamp()),
    Column("who", Text, nullable=False, comment="role:key id, or the service's own part"),
    Column("machine_id", Text, nullable=False),
    Column("why", Text, nullable=False),
    Index("ix_personal_access_machine", "machine_id", "at"),
    comment="every reading of personal data",
)
