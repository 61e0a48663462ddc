"""the unfinished messages of a project are found by an index"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_messages_unfinished_project",
        "messages",
        ["project_id"],
        unique=False,
        postgresql_where=sa.text("role = 'assistant' AND status IN ('pending', 'building')"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_messages_unfinished_project",
        table_name="messages",
        postgresql_where=sa.text("role = 'assistant' AND status IN ('pending', 'building')"),
    )
