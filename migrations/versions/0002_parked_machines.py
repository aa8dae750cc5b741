"""Parked machines, their held records, and dead letters that a person wants tried again

Revision: 0002, after 0001

What changes `dead_letter` changes the catalogue only, and stands last: its lock ends with the next commit.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked_machine",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column(
            "topic",
            sa.Text(),
            nullable=True,
            comment="of the dead letter that it waits behind; null: it is catching up",
        ),
        sa.Column("topic_offset", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("parked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False, comment="by PostgreSQL's clock"),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_parked_machine")),
        comment="machines of which a record made the rules fail; written by the partition's owner alone",
    )
    op.create_index("ix_parked_machine_due", "parked_machine", ["partition", "next_try_at"], unique=False)
    op.create_table(
        "held_record",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column(
            "n",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="the order in which they are applied",
        ),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("topic_offset", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("record_key", sa.LargeBinary(), nullable=True),
        sa.Column("record_value", sa.LargeBinary(), nullable=True),
        sa.Column(
            "record_headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
            comment="[[name, value in base64], …]",
        ),
        sa.PrimaryKeyConstraint("machine_id", "n", name=op.f("pk_held_record")),
        comment="what came of a parked machine since: applied in order once it is mended",
    )
    op.add_column(
        "dead_letter",
        sa.Column(
            "requested_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="a person wants it tried again, and it was not yet",
        ),
    )
    op.add_column("dead_letter", sa.Column("taken_up_why", sa.Text(), nullable=True, comment="why it failed again"))
    op.alter_column(
        "dead_letter",
        "taken_up_at",
        existing_type=sa.DateTime(timezone=True),
        comment="when it was tried again and no registration helps",
        existing_comment="when it was tried again, once",
        existing_nullable=True,
    )


def downgrade() -> None:
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM held_record)")):
        raise RuntimeError("held_record still holds pings that exist nowhere else: mend their machines first")
    op.alter_column(
        "dead_letter",
        "taken_up_at",
        existing_type=sa.DateTime(timezone=True),
        comment="when it was tried again, once",
        existing_comment="when it was tried again and no registration helps",
        existing_nullable=True,
    )
    op.drop_column("dead_letter", "taken_up_why")
    op.drop_column("dead_letter", "requested_at")
    op.drop_table("held_record")
    op.drop_index("ix_parked_machine_due", table_name="parked_machine")
    op.drop_table("parked_machine")
