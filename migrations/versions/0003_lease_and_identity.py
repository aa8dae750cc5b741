"""Who leads the schedule, and which database this is

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
            "identity", sa.Text(), nullable=False, comment="server, timeline and database that the rows were written in"
        ),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_database_identity")),
    )


def downgrade() -> None:
    op.drop_table("database_identity")
    op.drop_table("schedule_lease")
