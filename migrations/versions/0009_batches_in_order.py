"""a batch's projects take turns, each with one item at a time"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("last_project_id", sa.UUID(), nullable=True))
    op.create_index(
        "ix_batch_items_waiting",
        "batch_items",
        ["batch_id", "project_id", "message_id"],
        postgresql_where=sa.text("sent_at IS NULL AND ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_batch_items_waiting", table_name="batch_items")
    op.drop_column("batches", "last_project_id")
