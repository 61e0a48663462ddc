"""a page of what failed or of a rare kind, what was retried, and a project's keys are found without reading the rest"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # they may have been made by hand before, without holding writers up
    op.create_index(
        "ix_messages_page_ended",
        "messages",
        ["project_id", "status", "id"],
        postgresql_where=sa.text("role = 'assistant' AND status IN ('error', 'cancelled')"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_messages_page_kind",
        "messages",
        ["project_id", "kind", "id"],
        postgresql_where=sa.text("kind IN ('status', 'tool_result', 'error')"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_messages_numbered",
        "messages",
        ["project_id", "queue_number"],
        postgresql_where=sa.text("role = 'assistant'"),
        if_not_exists=True,
    )
    op.create_index("ix_idempotency_keys_project_id", "idempotency_keys", ["project_id"], if_not_exists=True)


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_project_id", table_name="idempotency_keys")
    op.drop_index("ix_messages_numbered", table_name="messages")
    op.drop_index("ix_messages_page_kind", table_name="messages")
    op.drop_index("ix_messages_page_ended", table_name="messages")
