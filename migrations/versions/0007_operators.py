"""operators ask what ended, how, and when; and what failed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_messages_ended",
        "messages",
        ["status", "updated_at"],
        unique=False,
        postgresql_include=["error_code", "total_tokens"],
        postgresql_where=sa.text("role = 'assistant' AND status IN ('success', 'error', 'cancelled')"),
    )
    op.create_index(
        "ix_messages_failed",
        "messages",
        ["id"],
        unique=False,
        postgresql_where=sa.text("role = 'assistant' AND status = 'error'"),
    )


def downgrade() -> None:
    op.drop_index("ix_messages_failed", table_name="messages")
    op.drop_index("ix_messages_ended", table_name="messages")
