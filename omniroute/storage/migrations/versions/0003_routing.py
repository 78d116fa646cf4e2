"""Routing: other names for models, chains, channels; what workers share about connections; decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _epoch(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _whole(name: str, default: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=default)


def _enabled() -> sa.Column[int]:
    return sa.Column("enabled", sa.SmallInteger, nullable=False, server_default="1")


def upgrade() -> None:
    op.create_table(
        "model_aliases",
        _text("id"),
        _text("pattern"),
        _text("target"),
        _whole("priority", "0"),
        _enabled(),
        _whole("hit_count", "0"),
        _epoch("created_at"),
        _epoch("updated_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pattern"),
    )
    op.create_table(
        "combo_patterns",
        _text("id"),
        _text("pattern"),
        _text("combo_id"),
        _whole("priority", "0"),
        _enabled(),
        _text("description", nullable=True),
        _epoch("created_at"),
        _epoch("updated_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_combo_patterns_combo_id", "combo_patterns", ["combo_id"])
    op.create_table(
        "fallback_chains",
        _text("id"),
        _text("name"),
        _text("models_json"),
        _text("match_json"),
        _whole("sort_order", "0"),
        _enabled(),
        _epoch("created_at"),
        _epoch("updated_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "auto_channels",
        _text("channel"),
        _text("api_key_id"),
        _text("weights_json", nullable=True),
        sa.Column("exploration", sa.Double, nullable=True),
        _text("exclusions_json", nullable=True),
        _epoch("created_at"),
        _epoch("updated_at"),
        sa.PrimaryKeyConstraint("channel", "api_key_id"),
    )
    op.create_table("pacing", _text("key"), _epoch("next_slot_at"), sa.PrimaryKeyConstraint("key"))
    op.create_table(
        "slots",
        _text("scope"),
        _text("request_id"),
        _text("owner"),
        _epoch("expires_at"),
        sa.PrimaryKeyConstraint("scope", "request_id"),
    )
    op.create_index("ix_slots_expires_at", "slots", ["expires_at"])
    op.create_table(
        "routing_counters",
        _text("scope"),
        _text("kind"),
        _text("value_json"),
        _epoch("updated_at"),
        sa.PrimaryKeyConstraint("scope", "kind"),
    )
    op.create_index("ix_routing_counters_updated_at", "routing_counters", ["updated_at"])
    op.create_table(
        "session_bindings",
        _text("session_hash"),
        _text("provider"),
        _text("connection_id"),
        _text("target", nullable=True),
        sa.Column("position", sa.BigInteger, nullable=True),
        _text("note", nullable=True),
        _epoch("updated_at"),
        _epoch("expires_at"),
        sa.PrimaryKeyConstraint("session_hash", "provider"),
    )
    op.create_index("ix_session_bindings_expires_at", "session_bindings", ["expires_at"])
    op.create_index("ix_session_bindings_updated_at", "session_bindings", ["updated_at"])
    op.create_table(
        "decisions",
        _text("request_id"),
        _epoch("time"),
        _text("policy_hash"),
        _text("rng_seed"),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("ix_decisions_time", "decisions", ["time"])


def downgrade() -> None:
    for name in (
        "decisions",
        "session_bindings",
        "routing_counters",
        "slots",
        "pacing",
        "auto_channels",
        "fallback_chains",
        "combo_patterns",
        "model_aliases",
    ):
        op.drop_table(name)
