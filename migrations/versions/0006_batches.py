"""batches: failed messages are answered again together"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_UNFINISHED = sa.text("state IN ('waiting', 'sent')")


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.UUID(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("status", sa.Enum("running", "paused", "stopped", "done", name="batch_status"), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("paced_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told", sa.JSON(), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("uq_batches_idempotency", "batches", ["asked_by", "idempotency_key"], unique=True)
    op.create_index("ix_batches_unfinished", "batches", ["sent_at"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "batch_items",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column(
            "state",
            sa.Enum("waiting", "sent", "succeeded", "failed", "skipped", name="item_state"),
            nullable=False,
        ),
        sa.Column("first_code", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_batch_items_batch_id_batches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "message_id", name=op.f("pk_batch_items")),
    )
    op.create_index(
        "uq_batch_items_unfinished", "batch_items", ["message_id"], unique=True, postgresql_where=_UNFINISHED
    )
    op.create_index("ix_batch_items_message", "batch_items", ["message_id"])
    op.create_index("ix_batch_items_state", "batch_items", ["batch_id", "state", "message_id"])
    op.create_index("ix_batch_items_sent", "batch_items", ["message_id"], postgresql_where=sa.text("state = 'sent'"))
    op.add_column("messages", sa.Column("batch_id", postgresql.UUID(as_uuid=True), nullable=True))
    op.create_index(
        "ix_messages_batch",
        "messages",
        ["rung_at"],
        postgresql_where=sa.text("status = 'pending' AND lease_owner IS NULL AND batch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_unsuccessful",
        "messages",
        ["updated_at"],
        postgresql_where=sa.text("status IN ('error', 'cancelled')"),
    )


def downgrade() -> None:
    op.drop_index("ix_messages_unsuccessful", table_name="messages")
    op.drop_index("ix_messages_batch", table_name="messages")
    op.drop_column("messages", "batch_id")
    op.drop_table("batch_items")
    op.drop_table("batches")
    for name in ("item_state", "batch_status"):
        postgresql.ENUM(name=name).drop(op.get_bind())
