"""builds that wait for a builder are found by an index"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_messages_buildable",
        "messages",
        ["enqueued_at"],
        unique=False,
        postgresql_where=sa.text("status = 'building' AND lease_owner IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_messages_buildable",
        table_name="messages",
        postgresql_where=sa.text("status = 'building' AND lease_owner IS NULL"),
    )
