"""a user's tokens of a day are those of what was enqueued on it, retries too"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_messages_author_enqueued", "messages", ["author_id", "enqueued_at"], unique=False)
    op.drop_index("ix_messages_author_created", table_name="messages")


def downgrade() -> None:
    op.create_index("ix_messages_author_created", "messages", ["author_id", "created_at"], unique=False)
    op.drop_index("ix_messages_author_enqueued", table_name="messages")
