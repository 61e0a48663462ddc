"""a JWT that was brought here has a row among the tokens, which names its issuer"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("issuer", sa.Text(), nullable=True))
    op.create_index(
        "ix_tokens_expires_at_jwts",
        "tokens",
        ["expires_at"],
        postgresql_where=sa.text("issuer IS NOT NULL"),
    )


def downgrade() -> None:
    op.execute("DELETE FROM tokens WHERE issuer IS NOT NULL")  # without the column they would be tokens of ours
    op.drop_index("ix_tokens_expires_at_jwts", table_name="tokens")
    op.drop_column("tokens", "issuer")
