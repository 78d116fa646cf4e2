"""Responses that a later request refers to by id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "issued_responses",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("api_key_id", sa.Text, nullable=False),
        sa.Column("previous_id", sa.Text, nullable=True),
        sa.Column("items_enc", sa.Text, nullable=False),
        sa.Column("response_enc", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_issued_responses_expires_at", "issued_responses", ["expires_at"])
    op.create_index("ix_issued_responses_api_key_id", "issued_responses", ["api_key_id"])
    op.create_table(
        "response_origins",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("api_key_id", sa.Text, nullable=False),
        sa.Column("connection_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", "api_key_id"),
    )
    op.create_index("ix_response_origins_expires_at", "response_origins", ["expires_at"])


def downgrade() -> None:
    op.drop_table("response_origins")
    op.drop_table("issued_responses")
