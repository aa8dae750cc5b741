"""Tables of the call queue. Nothing personal is here: names and numbers are in `contact` alone, sealed.

Everything that a claim compares (state, rank, routes) is a stored column, so that the claim is one indexed statement.
`call_subject` remembers how far each subject of a machine came, so that old news never opens a call again.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from telemetry_svc.store.schema.base import UtcDateTime, Xid8, metadata

call_task = Table(
    "call_task",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("task_id", Uuid, primary_key=True),
    Column("edition", Text, nullable=False, comment="whose numbers the task goes by"),
    Column("state", Text, nullable=False),
    Column("state_reason", Text, comment="why it is escalated"),
    Column("priority", SmallInteger, nullable=False, comment="1 = most urgent … 9"),
    Column("customer_id", Text),
    Column("expert_id", Text, comment="the machine's own expert"),
    Column("team_id", Text),
    Column("contact_count", SmallInteger, nullable=False, comment="numbers that may be called"),
    Column("contact_no", SmallInteger, nullable=False, comment="wrong numbers passed"),
    Column("attempts", SmallInteger, nullable=False),
    Column("rejected_by", ARRAY(Text), nullable=False, comment="experts to whom it is offered no more"),
    Column("offered_at", UtcDateTime, comment="when the clock last began to allow a claim"),
    Column("rank_at", UtcDateTime, comment="order of offer, the lowest first"),
    Column("route_team_at", UtcDateTime, comment="from then on its team may claim it"),
    Column("route_anyone_at", UtcDateTime, comment="from then on anyone may claim it"),
    Column("not_before", UtcDateTime),
    Column("due_at", UtcDateTime, comment="nearest limit of its cases"),
    Column("callback_at", UtcDateTime, comment="agreed with the customer"),
    Column("last_outcome", Text),
    Column("last_outcome_at", UtcDateTime),
    Column("leased_to", Text),
    Column("lease_token", Uuid, comment="valid until claimed again, released, rejected or settled"),
    Column("lease_expires_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()"), comment="of the opening"),
    Column("n", BigInteger, Identity(always=True), nullable=False),
    Index(
        "uq_call_task_open",
        "machine_id",
        unique=True,
        postgresql_where=text("state NOT IN ('completed', 'cancelled')"),
    ),
    Index("ix_call_task_id", "task_id", unique=True),
    Index("ix_call_task_cursor", "xid", "n"),
    Index("ix_call_task_rank", "rank_at", "machine_id", postgresql_where=text("state = 'pending'")),
    Index("ix_call_task_customer", "customer_id", "rank_at", postgresql_where=text("state = 'pending'")),
    Index("ix_call_task_lease", "lease_expires_at", postgresql_where=text("state = 'claimed'")),
    Index("ix_call_task_holder", "leased_to", postgresql_where=text("state = 'claimed'")),
    Index(
        "ix_call_task_waiting",
        "not_before",
        postgresql_where=text("state IN ('waiting_window', 'callback_scheduled')"),
    ),
)

call_reason = Table(
    "call_reason",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("task_id", Uuid, primary_key=True),
    Column("alert_id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="what the stages of one thing have in common"),
    Column("stage", Text),
    Column("phase", Text),
    Column("milestone_h", Integer),
    Column("severity", Text),
    Column("summary", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("place", Integer, nullable=False, comment="its order in the task"),
    Column("shown", Boolean, nullable=False, comment="was in the answer of the last claim"),
    Column("listed", Boolean, nullable=False, comment="belongs to the list that the task shows"),
    Column("joined_at", UtcDateTime, nullable=False),
    Column("ended", Text, comment="why it is a reason no longer"),
    Column("ended_at", UtcDateTime),
    ForeignKeyConstraint(["machine_id", "task_id"], ["call_task.machine_id", "call_task.task_id"]),
    Index("uq_call_reason_open", "machine_id", "alert_id", unique=True, postgresql_where=text("ended IS NULL")),
)

call_subject = Table(
    "call_subject",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("reached", SmallInteger, nullable=False, comment="rank of the last stage the queue has seen"),
)

call_history = Table(
    "call_history",
    metadata,
    Column("machine_id", Text, nullable=False),
    Column("task_id", Uuid, nullable=False),
    Column("n", BigInteger, Identity(always=True), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("step", Text, nullable=False),
    Column("state", Text, nullable=False, comment="after it"),
    Column("state_reason", Text),
    Column("why", Text, nullable=False),
    Column("by", Text, comment="the expert, if a person did it"),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    PrimaryKeyConstraint("machine_id", "task_id", "n"),
    Index("ix_call_history_cursor", "xid", "n"),
)

call_outcome = Table(
    "call_outcome",
    metadata,
    Column("machine_id", Text, nullable=False),
    Column("task_id", Uuid, nullable=False),
    Column("n", BigInteger, Identity(always=True), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("expert_id", Text),
    Column("reasons_done", ARRAY(Uuid), comment="null = all that the claim's answer showed"),
    Column("callback_at", UtcDateTime),
    Column("solved_by_phone", Boolean),
    Column("satisfaction", SmallInteger),
    Column("key_id", Text, comment="which key of the keyring sealed it"),
    Column("sealed", LargeBinary, comment="AES-GCM of {note, appointment, usage, feedback, complaint}"),
    PrimaryKeyConstraint("machine_id", "task_id", "n"),
    comment="what experts reported; free text may hold anything a customer said, so it is sealed",
)

call_idempotency = Table(
    "call_idempotency",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("answer", JSONB, comment="without names and numbers: they are read anew while the lease holds"),
    Column("created_at", UtcDateTime, nullable=False, server_default=text("clock_timestamp()")),
    Index("ix_call_idempotency_created", "created_at"),
)
