"""Who leads the schedule, which database this is, and the index by which requested dead letters are found

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

from telemetry_svc.store.migrate import beside_writers

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with beside_writers():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_dead_letter_requested")  # invalid, where a try had failed
        op.create_index(
            "ix_dead_letter_requested",
            "dead_letter",
            ["partition"],
            unique=False,
            postgresql_where=sa.text("requested_at IS NOT NULL"),
            postgresql_concurrently=True,
        )
    op.create_table(
        "schedule_lease",
        sa.Column("name", sa.Text(), nullable=False, comment="what is led"),
        sa.Column("holder", sa.Uuid(), nullable=False, comment="the process that leads, or led last"),
        sa.Column(
            "term",
            sa.BigInteger(),
            nullable=False,
            comment="grows with each taking; every write of the leader checks it",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule_lease")),
    )
    op.create_table(
        "database_identity",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="there is one row: 1"),
        sa.Column(
            "identity", sa.Text(), nullable=False, comment="server, timeline, database and transaction that wrote it"
        ),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_database_identity")),
    )


def downgrade() -> None:
    op.drop_table("database_identity")
    op.drop_table("schedule_lease")
    op.drop_index(
        "ix_dead_letter_requested",
        table_name="dead_letter",
        postgresql_where=sa.text("requested_at IS NOT NULL"),
    )
