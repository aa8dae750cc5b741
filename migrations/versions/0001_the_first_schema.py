"""The first schema

Revision: 0001, after
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from telemetry_svc.store.schema.base import Xid8

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("all_machines", sa.Boolean(), nullable=False),
        sa.Column("machine_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("expert_id", sa.Text(), nullable=True, comment="speaks for this expert and for no other"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_table(
        "call_history",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="after it"),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=True, comment="the expert, if a person did it"),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "task_id", "n", name=op.f("pk_call_history")),
    )
    op.create_index("ix_call_history_cursor", "call_history", ["xid", "n"], unique=False)
    op.create_table(
        "call_idempotency",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column(
            "answer",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="without names and numbers: they are read anew while the lease holds",
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("key_id", "idempotency_key", name=op.f("pk_call_idempotency")),
    )
    op.create_index("ix_call_idempotency_created", "call_idempotency", ["created_at"], unique=False)
    op.create_table(
        "call_outcome",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("expert_id", sa.Text(), nullable=True),
        sa.Column(
            "reasons_done",
            postgresql.ARRAY(sa.Uuid()),
            nullable=True,
            comment="null = all that the claim's answer showed",
        ),
        sa.Column("callback_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("solved_by_phone", sa.Boolean(), nullable=True),
        sa.Column("satisfaction", sa.SmallInteger(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True, comment="which key of the keyring sealed it"),
        sa.Column(
            "sealed",
            sa.LargeBinary(),
            nullable=True,
            comment="AES-GCM of {note, appointment, usage, feedback, complaint}",
        ),
        sa.PrimaryKeyConstraint("machine_id", "task_id", "n", name=op.f("pk_call_outcome")),
        comment="what experts reported; free text may hold anything a customer said, so it is sealed",
    )
    op.create_table(
        "call_subject",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reached", sa.SmallInteger(), nullable=False, comment="rank of the last stage the queue has seen"),
        sa.PrimaryKeyConstraint("machine_id", "subject", name=op.f("pk_call_subject")),
    )
    op.create_table(
        "call_task",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False, comment="whose numbers the task goes by"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True, comment="why it is escalated"),
        sa.Column("priority", sa.SmallInteger(), nullable=False, comment="1 = most urgent … 9"),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("expert_id", sa.Text(), nullable=True, comment="the machine's own expert"),
        sa.Column("team_id", sa.Text(), nullable=True),
        sa.Column("contact_count", sa.SmallInteger(), nullable=False, comment="numbers that may be called"),
        sa.Column("contact_no", sa.SmallInteger(), nullable=False, comment="wrong numbers passed"),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column(
            "rejected_by", postgresql.ARRAY(sa.Text()), nullable=False, comment="experts to whom it is offered no more"
        ),
        sa.Column(
            "offered_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the clock last began to allow a claim",
        ),
        sa.Column("rank_at", sa.DateTime(timezone=True), nullable=True, comment="order of offer, the lowest first"),
        sa.Column(
            "route_team_at", sa.DateTime(timezone=True), nullable=True, comment="from then on its team may claim it"
        ),
        sa.Column(
            "route_anyone_at", sa.DateTime(timezone=True), nullable=True, comment="from then on anyone may claim it"
        ),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="nearest limit of its cases"),
        sa.Column("callback_at", sa.DateTime(timezone=True), nullable=True, comment="agreed with the customer"),
        sa.Column("last_outcome", sa.Text(), nullable=True),
        sa.Column("last_outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_to", sa.Text(), nullable=True),
        sa.Column(
            "lease_token", sa.Uuid(), nullable=True, comment="valid until claimed again, released, rejected or settled"
        ),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False, comment="of the opening"
        ),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "task_id", name=op.f("pk_call_task")),
    )
    op.create_index("ix_call_task_cursor", "call_task", ["xid", "n"], unique=False)
    op.create_index(
        "ix_call_task_customer",
        "call_task",
        ["customer_id", "rank_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_call_task_holder", "call_task", ["leased_to"], unique=False, postgresql_where=sa.text("state = 'claimed'")
    )
    op.create_index("ix_call_task_id", "call_task", ["task_id"], unique=True)
    op.create_index(
        "ix_call_task_lease",
        "call_task",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'claimed'"),
    )
    op.create_index(
        "ix_call_task_rank",
        "call_task",
        ["rank_at", "machine_id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_call_task_waiting",
        "call_task",
        ["not_before"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting_window', 'callback_scheduled')"),
    )
    op.create_index(
        "uq_call_task_open",
        "call_task",
        ["machine_id"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('completed', 'cancelled')"),
    )
    op.create_table(
        "command",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="pending, applied, rejected"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it was rejected"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=True, comment="the broker's append time"),
        sa.Column("partition", sa.SmallInteger(), nullable=True),
        sa.Column("apply_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("machine_id", "id", name=op.f("pk_command")),
    )
    op.create_index("ix_command_id", "command", ["id"], unique=False)
    op.create_table(
        "dead_letter",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("topic_offset", sa.BigInteger(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("machine_id", sa.Text(), nullable=True, comment="where it could be read"),
        sa.Column(
            "record_timestamp", sa.DateTime(timezone=True), nullable=False, comment="received_at of the original"
        ),
        sa.Column("record_key", sa.LargeBinary(), nullable=True),
        sa.Column("record_value", sa.LargeBinary(), nullable=True, comment="cut at 1 MiB"),
        sa.Column("original_length", sa.Integer(), nullable=True, comment="where record_value was cut"),
        sa.Column(
            "record_headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
            comment="[[name, value in base64], …]",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("taken_up_at", sa.DateTime(timezone=True), nullable=True, comment="when it was tried again, once"),
        sa.Column(
            "taken_up_as", sa.Text(), nullable=True, comment="replayed, repeated, or the class it failed with again"
        ),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "topic_offset", name=op.f("pk_dead_letter")),
    )
    op.create_index("ix_dead_letter_cursor", "dead_letter", ["xid", "n"], unique=False)
    op.create_index(
        "ix_dead_letter_unknown_machine",
        "dead_letter",
        ["machine_id"],
        unique=False,
        postgresql_where=sa.text("error_class = 'unknown_machine' AND taken_up_at IS NULL"),
    )
    op.create_table(
        "event",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False, comment="when the fact became true"),
        sa.Column(
            "body", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the CloudEvent as it goes out"
        ),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="what decided it"),
        sa.Column("rules_version", sa.Text(), nullable=True, comment="of the service whose rules decided it"),
        sa.Column(
            "by_replay", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="added by `replay`"
        ),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", "id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_cursor", "event", ["xid", "n"], unique=False)
    op.create_index("ix_event_id", "event", ["id"], unique=False)
    op.create_table(
        "machine",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("tonnage_t", sa.Double(), nullable=False, comment="operating weight"),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("delivered_on", sa.Date(), nullable=True, comment="a day in the machine's own time_zone"),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("policy_edition", sa.Text(), nullable=False, comment="bound at registration, for good"),
        sa.Column("initial_ch", sa.Integer(), nullable=False, comment="hundredths of an hour at registration"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("device_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("expert_id", sa.Text(), nullable=True),
        sa.Column("team_id", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("geofence", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("permitted_hours", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "xid", Xid8(), server_default=sa.text("pg_current_xact_id()"), nullable=False, comment="of the registration"
        ),
        sa.Column("n", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.CheckConstraint("status IN ('active', 'stored', 'retired')", name=op.f("ck_machine_status")),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_machine")),
    )
    op.create_index("ix_machine_cursor", "machine", ["xid", "n"], unique=False)
    op.create_table(
        "machine_snapshot",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column(
            "apply_seq", sa.BigInteger(), autoincrement=False, nullable=False, comment="every input up to here is in it"
        ),
        sa.Column(
            "taken_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="the broker's clock: all received before is in it",
        ),
        sa.Column(
            "event_n", sa.BigInteger(), nullable=False, comment="the machine's events up to here were decided before it"
        ),
        sa.Column("state", sa.LargeBinary(), nullable=False, comment="as in machine_state"),
        sa.PrimaryKeyConstraint("machine_id", "apply_seq", name=op.f("pk_machine_snapshot")),
        comment="where a replay may begin; kept as long as telemetry",
    )
    op.create_table(
        "machine_state",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column(
            "next_check_at", sa.DateTime(timezone=True), nullable=True, comment="when time alone may decide something"
        ),
        sa.Column("state", sa.LargeBinary(), nullable=False, comment="rules.MachineState as JSON"),
        sa.Column(
            "snapshot_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="of its last snapshot",
        ),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_machine_state")),
    )
    op.create_index(
        "ix_machine_state_due",
        "machine_state",
        ["partition", "next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index("ix_machine_state_snapshot", "machine_state", ["partition", "snapshot_at"], unique=False)
    op.create_table(
        "offset_gap",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("from_offset", sa.BigInteger(), nullable=False),
        sa.Column("to_offset", sa.BigInteger(), nullable=False, comment="the first offset after the gap"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "from_offset", name=op.f("pk_offset_gap")),
    )
    op.create_table(
        "outbox_bucket",
        sa.Column("bucket", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_outbox_bucket")),
    )
    op.create_table(
        "partition_owner",
        sa.Column("group_name", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("owner_epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner_pid", sa.Integer(), nullable=False, comment="backend of the owner's pinned connection"),
        sa.Column(
            "owner_backend_start",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="tells a reused pid from the owner's",
        ),
        sa.Column("next_offset_a", sa.BigInteger(), nullable=False, comment="of the group's first topic"),
        sa.Column("next_offset_b", sa.BigInteger(), nullable=False, comment="of the group's second topic"),
        sa.Column("apply_seq", sa.BigInteger(), server_default="0", nullable=False, comment="inputs applied so far"),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "partition", name=op.f("pk_partition_owner")),
    )
    op.create_table(
        "personal_access",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="role:key id, or the service's own part"),
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_personal_access")),
        comment="every reading of personal data",
    )
    op.create_index("ix_personal_access_machine", "personal_access", ["machine_id", "at"], unique=False)
    op.create_table(
        "ping",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dedupe", sa.BigInteger(), nullable=False, comment="the sequence, or minus a hash of the content"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, comment="the broker's append time"),
        sa.Column("future", sa.Boolean(), nullable=False, comment="dated > 5 min after received_at: decides nothing"),
        sa.Column("hour_meter_ch", sa.Integer(), nullable=True, comment="hundredths of an hour"),
        sa.Column("latitude_deg", sa.Double(), nullable=True),
        sa.Column("longitude_deg", sa.Double(), nullable=True),
        sa.Column("altitude_m", sa.Double(), nullable=True),
        sa.Column("speed_kmh", sa.Double(), nullable=True),
        sa.Column("heading_deg", sa.Double(), nullable=True),
        sa.Column("coolant_temperature_c", sa.Double(), nullable=True),
        sa.Column("oil_pressure_kpa", sa.Double(), nullable=True),
        sa.Column("fuel_level_pct", sa.Double(), nullable=True),
        sa.Column("battery_v", sa.Double(), nullable=True),
        sa.Column(
            "faults",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="list of codes; [] = no active fault; null = not reported",
        ),
        sa.Column("engine_running", sa.Boolean(), nullable=True),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("topic_offset", sa.BigInteger(), nullable=False),
        sa.Column(
            "apply_seq", sa.BigInteger(), nullable=False, comment="order in which its partition's owner applied it"
        ),
        sa.PrimaryKeyConstraint("machine_id", "recorded_at", "dedupe", name=op.f("pk_ping")),
        postgresql_partition_by="RANGE (recorded_at)",
    )
    op.create_table(
        "ping_outlier",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dedupe", sa.BigInteger(), nullable=False, comment="the sequence, or minus a hash of the content"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, comment="the broker's append time"),
        sa.Column("future", sa.Boolean(), nullable=False, comment="dated > 5 min after received_at: decides nothing"),
        sa.Column("hour_meter_ch", sa.Integer(), nullable=True, comment="hundredths of an hour"),
        sa.Column("latitude_deg", sa.Double(), nullable=True),
        sa.Column("longitude_deg", sa.Double(), nullable=True),
        sa.Column("altitude_m", sa.Double(), nullable=True),
        sa.Column("speed_kmh", sa.Double(), nullable=True),
        sa.Column("heading_deg", sa.Double(), nullable=True),
        sa.Column("coolant_temperature_c", sa.Double(), nullable=True),
        sa.Column("oil_pressure_kpa", sa.Double(), nullable=True),
        sa.Column("fuel_level_pct", sa.Double(), nullable=True),
        sa.Column("battery_v", sa.Double(), nullable=True),
        sa.Column(
            "faults",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="list of codes; [] = no active fault; null = not reported",
        ),
        sa.Column("engine_running", sa.Boolean(), nullable=True),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("topic_offset", sa.BigInteger(), nullable=False),
        sa.Column(
            "apply_seq", sa.BigInteger(), nullable=False, comment="order in which its partition's owner applied it"
        ),
        sa.PrimaryKeyConstraint("machine_id", "recorded_at", "dedupe", name=op.f("pk_ping_outlier")),
        comment="pings dated outside the partitions of `ping` (a clock at 2011 or 2038): kept whole, same key",
    )
    op.create_table(
        "schedule_slot",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("schedule", "slot", name=op.f("pk_schedule_slot")),
    )
    op.create_table(
        "topic_layout",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column(
            "partitions",
            sa.Integer(),
            nullable=False,
            comment="machines were spread over so many; never changes online",
        ),
        sa.PrimaryKeyConstraint("topic", name=op.f("pk_topic_layout")),
    )
    op.create_table(
        "call_reason",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="what the stages of one thing have in common"),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("milestone_h", sa.Integer(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False, comment="its order in the task"),
        sa.Column("shown", sa.Boolean(), nullable=False, comment="was in the answer of the last claim"),
        sa.Column("listed", sa.Boolean(), nullable=False, comment="belongs to the list that the task shows"),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.Text(), nullable=True, comment="why it is a reason no longer"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["machine_id", "task_id"],
            ["call_task.machine_id", "call_task.task_id"],
            name=op.f("fk_call_reason_machine_id"),
        ),
        sa.PrimaryKeyConstraint("machine_id", "task_id", "alert_id", name=op.f("pk_call_reason")),
    )
    op.create_index(
        "uq_call_reason_open",
        "call_reason",
        ["machine_id", "alert_id"],
        unique=True,
        postgresql_where=sa.text("ended IS NULL"),
    )
    op.create_table(
        "contact",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column(
            "ordinal",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="0 = the customer; the order of calls",
        ),
        sa.Column("key_id", sa.Text(), nullable=False, comment="which key of the keyring sealed it"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False, comment="AES-GCM of {name, phone, role, language}"),
        sa.Column("phone_index", sa.LargeBinary(), nullable=True, comment="HMAC of the number; null = no number"),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machine.machine_id"], name=op.f("fk_contact_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "ordinal", name=op.f("pk_contact")),
    )
    op.create_index("ix_contact_phone_index", "contact", ["phone_index"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=True, comment="set for records without a key"),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column(
            "headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
            comment="[[name, value in base64], …]",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parked_reason", sa.Text(), nullable=True, comment="why it can never be sent"),
        sa.ForeignKeyConstraint(["bucket"], ["outbox_bucket.bucket"], name=op.f("fk_outbox_bucket")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_sent", "outbox", ["sent_at"], unique=False, postgresql_where=sa.text("sent_at IS NOT NULL")
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["bucket", "id"],
        unique=False,
        postgresql_where=sa.text("sent_at IS NULL AND parked_reason IS NULL"),
    )
    op.execute("INSERT INTO outbox_bucket SELECT generate_series(0, 63)")


def downgrade() -> None:
    op.drop_index(
        "ix_outbox_waiting", table_name="outbox", postgresql_where=sa.text("sent_at IS NULL AND parked_reason IS NULL")
    )
    op.drop_index("ix_outbox_sent", table_name="outbox", postgresql_where=sa.text("sent_at IS NOT NULL"))
    op.drop_table("outbox")
    op.drop_index("ix_contact_phone_index", table_name="contact")
    op.drop_table("contact")
    op.drop_index("uq_call_reason_open", table_name="call_reason", postgresql_where=sa.text("ended IS NULL"))
    op.drop_table("call_reason")
    op.drop_table("topic_layout")
    op.drop_table("schedule_slot")
    op.drop_table("ping_outlier")
    op.drop_table("ping")
    op.drop_index("ix_personal_access_machine", table_name="personal_access")
    op.drop_table("personal_access")
    op.drop_table("partition_owner")
    op.drop_table("outbox_bucket")
    op.drop_table("offset_gap")
    op.drop_index("ix_machine_state_snapshot", table_name="machine_state")
    op.drop_index(
        "ix_machine_state_due", table_name="machine_state", postgresql_where=sa.text("next_check_at IS NOT NULL")
    )
    op.drop_table("machine_state")
    op.drop_table("machine_snapshot")
    op.drop_index("ix_machine_cursor", table_name="machine")
    op.drop_table("machine")
    op.drop_index("ix_event_id", table_name="event")
    op.drop_index("ix_event_cursor", table_name="event")
    op.drop_table("event")
    op.drop_index(
        "ix_dead_letter_unknown_machine",
        table_name="dead_letter",
        postgresql_where=sa.text("error_class = 'unknown_machine' AND taken_up_at IS NULL"),
    )
    op.drop_index("ix_dead_letter_cursor", table_name="dead_letter")
    op.drop_table("dead_letter")
    op.drop_index("ix_command_id", table_name="command")
    op.drop_table("command")
    op.drop_index(
        "uq_call_task_open", table_name="call_task", postgresql_where=sa.text("state NOT IN ('completed', 'cancelled')")
    )
    op.drop_index(
        "ix_call_task_waiting",
        table_name="call_task",
        postgresql_where=sa.text("state IN ('waiting_window', 'callback_scheduled')"),
    )
    op.drop_index("ix_call_task_rank", table_name="call_task", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_call_task_lease", table_name="call_task", postgresql_where=sa.text("state = 'claimed'"))
    op.drop_index("ix_call_task_id", table_name="call_task")
    op.drop_index("ix_call_task_holder", table_name="call_task", postgresql_where=sa.text("state = 'claimed'"))
    op.drop_index("ix_call_task_customer", table_name="call_task", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_call_task_cursor", table_name="call_task")
    op.drop_table("call_task")
    op.drop_table("call_subject")
    op.drop_table("call_outcome")
    op.drop_index("ix_call_idempotency_created", table_name="call_idempotency")
    op.drop_table("call_idempotency")
    op.drop_index("ix_call_history_cursor", table_name="call_history")
    op.drop_table("call_history")
    op.drop_table("api_key")
